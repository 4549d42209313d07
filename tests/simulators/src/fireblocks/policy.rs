//! The transaction authorization policy: rules in order, the first that matches decides, and what none matches is blocked.

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Signs without asking.
    Allow,
    /// Asks so many approvers.
    Approval(usize),
    /// Refuses for ever.
    Block,
}

/// One rule. `None` matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// RAW, TYPED_MESSAGE, CONTRACT_CALL, TRANSFER.
    pub operation: Option<&'static str>,
    /// Vault account that pays.
    pub vault: Option<String>,
    /// Address called, lower case.
    pub destination: Option<String>,
    /// What it does.
    pub action: Action,
}

/// What a policy looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Operation.
    pub operation: &'a str,
    /// Vault account.
    pub vault: &'a str,
    /// Address called.
    pub destination: Option<&'a str>,
}

// === impl Rule ===

impl Rule {
    /// A rule for everything.
    #[must_use]
    pub fn all(action: Action) -> Self {
        Self { operation: None, vault: None, destination: None, action }
    }

    /// A rule for one operation.
    #[must_use]
    pub fn of(operation: &'static str, action: Action) -> Self {
        Self { operation: Some(operation), ..Self::all(action) }
    }

    fn matches(&self, subject: Subject<'_>) -> bool {
        let destination = subject.destination.map(str::to_lowercase);
        self.operation.is_none_or(|operation| operation == subject.operation)
            && self.vault.as_deref().is_none_or(|vault| vault == subject.vault)
            && (self.destination.is_none() || self.destination == destination)
    }
}

/// What the rules say.
#[must_use]
pub fn decide(rules: &[Rule], subject: Subject<'_>) -> Action {
    rules.iter().find(|rule| rule.matches(subject)).map_or(Action::Block, |rule| rule.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_decides_and_none_blocks() {
        let subject = Subject { operation: "RAW", vault: "1", destination: None };
        assert_eq!(decide(&[], subject), Action::Block);
        let rules = [Rule::of("RAW", Action::Approval(2)), Rule::all(Action::Allow)];
        assert_eq!(decide(&rules, subject), Action::Approval(2));
        assert_eq!(decide(&rules, Subject { operation: "CONTRACT_CALL", ..subject }), Action::Allow);
        let other = Rule { vault: Some("2".to_owned()), ..Rule::all(Action::Allow) };
        assert_eq!(decide(&[other], subject), Action::Block);
    }
}
