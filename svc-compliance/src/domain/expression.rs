//! Claim expressions: which topics somebody must carry, and which not. Kept as an OR of AND groups, which is what the contracts
//! read; written and read by people as text, for instance `kyc AND (accredited OR qualified) AND NOT sanctioned`.

mod parser;
mod printer;

use super::{claim::TopicName, rule::Fields};
use serde::{Deserialize, Serialize};

/// The most groups of an expression; the contracts pack them into one word.
pub const MAX_GROUPS: usize = 8;
/// The most distinct topics of an expression.
pub const MAX_TOPICS: usize = 15;
/// The longest text of an expression, in characters.
pub const MAX_TEXT_CHARS: usize = 2000;

/// An OR of groups that somebody meets and somebody does not: never empty, within the bounds of the contracts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(Vec<Group>);

/// Topics that must all hold, and topics that must not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Must be live.
    pub all_of: Vec<TopicName>,
    /// Must not be live.
    pub none_of: Vec<TopicName>,
}

/// A version of an expression that the tenant saved under a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SavedRef {
    /// Its name.
    pub name: ExpressionName,
    /// Its version, none for the newest.
    pub version: Option<u32>,
}

/// The name of a saved expression, 1 to 64 of `[a-z0-9._-]`, like that of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExpressionName(TopicName);

/// Claims that are asked for: written down, or by the name of a saved expression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claims {
    /// Written down.
    AnyOf(Expression),
    /// Saved.
    Saved(SavedRef),
}

/// Why a text or a list of groups is no expression. Positions count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// There is nothing.
    #[error("is empty: an empty expression would let everyone in")]
    Empty,
    /// The text is too long.
    #[error("is longer than {MAX_TEXT_CHARS} characters")]
    TooLong,
    /// Something else should stand here.
    #[error("position {position}: {found} where {expected} should stand")]
    Unexpected {
        /// Where.
        position: usize,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// An operator in small letters.
    #[error("position {position}: operators are written in capitals: {word}")]
    SmallOperator {
        /// Where.
        position: usize,
        /// As it should be written.
        word: String,
    },
    /// No name of a topic.
    #[error("position {position}: a topic is named by 1 to 64 of [a-z0-9._-]")]
    Topic {
        /// Where.
        position: usize,
    },
    /// Too many parentheses or NOTs within each other.
    #[error("position {position}: is nested too deep")]
    TooDeep {
        /// Where.
        position: usize,
    },
    /// Written as an OR of ANDs it is too long.
    #[error("position {position}: makes more than {MAX_GROUPS} groups once written as an OR of ANDs")]
    TooManyGroups {
        /// Where the part begins that does.
        position: usize,
    },
    /// Too many topics.
    #[error("position {position}: is the {}th topic; an expression names at most {MAX_TOPICS}", MAX_TOPICS + 1)]
    TooManyTopics {
        /// Where the first one too many stands.
        position: usize,
    },
    /// Every group asks for a topic and excludes it.
    #[error("asks for topics that it excludes: nobody could meet it")]
    MetByNobody,
    /// Whatever somebody carries, a group holds.
    #[error("is met by everyone, whatever they carry")]
    MetByEveryone,
}

// === impl Expression ===

impl Expression {
    /// The expression that a text stands for.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let expression = Self(parser::parse(text)?);
        if expression.is_met_by_everyone() {
            return Err(ExpressionError::MetByEveryone);
        }
        Ok(expression)
    }

    /// An expression of groups as the wire gives them; `field` is that of the list.
    pub fn of_groups(fields: &mut Fields<'_>, field: &str, groups: &[(Vec<String>, Vec<String>)]) -> Self {
        if groups.is_empty() {
            fields.refuse(field, "needs at least one group: an empty expression would let everyone in");
        }
        if groups.len() > MAX_GROUPS {
            fields.refuse(field, format!("holds at most {MAX_GROUPS} groups"));
        }
        let before = fields.problems();
        let groups = groups
            .iter()
            .take(MAX_GROUPS)
            .enumerate()
            .map(|(index, (all_of, none_of))| group(fields, &format!("{field}[{index}]"), all_of, none_of))
            .collect();
        let expression = Self(groups);
        if fields.problems() == before {
            if expression.topics().len() > MAX_TOPICS {
                fields.refuse(field, format!("names at most {MAX_TOPICS} topics"));
            } else if expression.is_met_by_everyone() {
                fields.refuse(field, ExpressionError::MetByEveryone.to_string());
            }
        }
        expression
    }

    /// An AND of topics; none of none.
    #[must_use]
    pub fn all_of(topics: &[TopicName]) -> Option<Self> {
        let group = Group { all_of: topics.to_vec(), none_of: Vec::new() };
        (!topics.is_empty()).then(|| Self(vec![group]))
    }

    /// Groups as a contract shows them, which checked them when it took them.
    #[must_use]
    pub fn of_contract(groups: Vec<Group>) -> Self {
        Self(groups)
    }

    /// Its groups, in the order they are asked.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.0
    }

    /// The distinct topics it names, in the order first named.
    #[must_use]
    pub fn topics(&self) -> Vec<&TopicName> {
        let mut topics: Vec<&TopicName> = Vec::new();
        for topic in self.0.iter().flat_map(Group::topics) {
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        topics
    }

    /// Whether two expressions are met by the same people because they are the same groups in whatever order.
    #[must_use]
    pub fn same_groups(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }

    fn sorted(&self) -> Vec<[Vec<&TopicName>; 2]> {
        let mut groups: Vec<_> = self.0.iter().map(Group::sorted).collect();
        groups.sort();
        groups.dedup();
        groups
    }

    /// Asked of every combination of its topics, of which there are at most 2^15.
    fn is_met_by_everyone(&self) -> bool {
        let topics = self.topics();
        let bits = |list: &[TopicName]| {
            list.iter()
                .filter_map(|topic| topics.iter().position(|known| known == &topic))
                .fold(0_u32, |set, at| set | 1 << at)
        };
        let groups: Vec<(u32, u32)> = self.0.iter().map(|group| (bits(&group.all_of), bits(&group.none_of))).collect();
        !groups.is_empty()
            && topics.len() <= MAX_TOPICS
            && (0..1_u32 << topics.len()).all(|carried| {
                groups.iter().any(|(all_of, none_of)| carried & all_of == *all_of && carried & none_of == 0)
            })
    }
}

fn group(fields: &mut Fields<'_>, here: &str, all_of: &[String], none_of: &[String]) -> Group {
    if all_of.is_empty() && none_of.is_empty() {
        fields.refuse(here, "needs at least one topic: an empty group would let everyone in");
    }
    let mut topics = |name: &str, list: &[String]| -> Vec<TopicName> {
        list.iter().enumerate().map(|(at, topic)| fields.topic(&format!("{here}.{name}[{at}]"), topic)).collect()
    };
    let group = Group { all_of: topics("all_of", all_of), none_of: topics("none_of", none_of) };
    if group.all_of.iter().any(|topic| group.none_of.contains(topic)) {
        fields.refuse(here, "asks for a topic and excludes it: nobody could meet it");
    }
    group
}

// === impl Group ===

impl Group {
    fn topics(&self) -> impl Iterator<Item = &TopicName> {
        self.all_of.iter().chain(&self.none_of)
    }

    fn sorted(&self) -> [Vec<&TopicName>; 2] {
        [&self.all_of, &self.none_of].map(|topics| {
            let mut sorted: Vec<&TopicName> = topics.iter().collect();
            sorted.sort_unstable();
            sorted
        })
    }
}

// === impl ExpressionName ===

impl ExpressionName {
    /// A well-formed name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        TopicName::new(name).map(Self)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// A stored name.
    pub(crate) fn unchecked(name: &str) -> Self {
        Self(TopicName::unchecked(name))
    }
}

// === impl Claims ===

impl Claims {
    /// The expression, unless it is a saved one that nobody has looked up yet.
    #[must_use]
    pub fn written(&self) -> Option<&Expression> {
        match self {
            Self::AnyOf(expression) => Some(expression),
            Self::Saved(_) => None,
        }
    }

    /// The saved expression it names.
    #[must_use]
    pub fn saved(&self) -> Option<&SavedRef> {
        match self {
            Self::AnyOf(_) => None,
            Self::Saved(saved) => Some(saved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ViolationKind, Violations};

    fn groups(text: &str) -> Vec<(String, String)> {
        let names = |topics: &[TopicName]| topics.iter().map(TopicName::as_str).collect::<Vec<_>>().join(" ");
        let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        expression.groups().iter().map(|group| (names(&group.all_of), names(&group.none_of))).collect()
    }

    fn pair(all_of: &str, none_of: &str) -> (String, String) {
        (all_of.into(), none_of.into())
    }

    #[test]
    fn a_text_becomes_an_or_of_ands() {
        assert_eq!(groups("kyc"), [pair("kyc", "")]);
        assert_eq!(
            groups("kyc AND (accredited OR qualified) AND NOT sanctioned"),
            [pair("kyc accredited", "sanctioned"), pair("kyc qualified", "sanctioned")]
        );
        assert_eq!(groups("a OR b AND c"), [pair("a", ""), pair("b c", "")], "AND binds before OR");
        assert_eq!(groups("NOT a AND b"), [pair("b", "a")], "NOT binds before AND");
        assert_eq!(groups("NOT (a OR b)"), [pair("", "a b")]);
        assert_eq!(groups("NOT (a AND NOT b)"), [pair("", "a"), pair("b", "")]);
        assert_eq!(groups("((  a))"), [pair("a", "")]);
        assert_eq!(groups("a AND a AND (b OR a)"), [pair("a", "")], "what another group implies is left out");
        assert_eq!(groups("(a AND NOT a) OR b"), [pair("b", "")], "what nobody meets is left out");
        assert_eq!(groups("eu.mifid-2_pro"), [pair("eu.mifid-2_pro", "")]);
    }

    #[test]
    fn what_it_prints_reads_as_the_same() {
        for (text, printed) in [
            ("kyc", "kyc"),
            ("NOT sanctioned", "NOT sanctioned"),
            (
                "kyc AND (accredited OR qualified) AND NOT sanctioned",
                "kyc AND (accredited OR qualified) AND NOT sanctioned",
            ),
            ("a OR b AND c", "a OR (b AND c)"),
            ("a AND (b OR (c AND NOT d))", "a AND (b OR (c AND NOT d))"),
            ("NOT (a AND NOT b)", "NOT a OR b"),
            ("(a OR b) AND (c OR d)", "(a AND c) OR (a AND d) OR (b AND c) OR (b AND d)"),
        ] {
            let expression = Expression::parse(text).unwrap();
            assert_eq!(expression.to_string(), printed);
            assert!(Expression::parse(printed).unwrap().same_groups(&expression), "{printed}");
        }
        // Groups that imply one another come from the wire only; their text still means the same people.
        let mut violations = Violations::new();
        let given = [(vec!["a".to_owned()], vec![]), (vec!["a".to_owned(), "b".to_owned()], vec![])];
        let expression = Expression::of_groups(&mut Fields::new(&mut violations, "rule"), "any_of", &given);
        assert_eq!(expression.to_string(), "a OR (a AND b)");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_position() {
        use ExpressionError::{
            MetByEveryone, MetByNobody, SmallOperator, TooDeep, TooLong, TooManyGroups, TooManyTopics,
        };
        let unexpected =
            |position, found: &str, expected| ExpressionError::Unexpected { position, found: found.into(), expected };
        let small = |position, word: &str| SmallOperator { position, word: word.into() };
        let many = |count: usize| (0..count).map(|n| format!("t{n:02}")).collect::<Vec<_>>().join(" AND ");
        for (text, error) in [
            ("", ExpressionError::Empty),
            ("  ", ExpressionError::Empty),
            ("a ".repeat(1001).as_str(), TooLong),
            ("a AND", unexpected(6, "the end", "a topic, NOT or (")),
            ("AND a", unexpected(1, "AND", "a topic, NOT or (")),
            ("a b", unexpected(3, "b", "AND, OR or the end")),
            ("(a OR b", unexpected(8, "the end", "AND, OR or )")),
            ("a)", unexpected(2, ")", "AND, OR or the end")),
            ("()", unexpected(2, ")", "a topic, NOT or (")),
            ("a and b", small(3, "AND")),
            ("not b", small(1, "NOT")),
            ("kyc AND KYC", ExpressionError::Topic { position: 9 }),
            ("kyc & aml", ExpressionError::Topic { position: 5 }),
            ("é AND !", ExpressionError::Topic { position: 1 }),
            (format!("a AND {}", "x".repeat(65)).as_str(), ExpressionError::Topic { position: 7 }),
            (format!("{}a{}", "(".repeat(40), ")".repeat(40)).as_str(), TooDeep { position: 33 }),
            ("a AND NOT a", MetByNobody),
            ("a OR NOT a", MetByEveryone),
            ("(a AND b) OR NOT a OR NOT b", MetByEveryone),
            (many(16).as_str(), TooManyTopics { position: 121 }),
            ("(a OR b) AND (c OR d) AND (e OR f) AND (g OR h)", TooManyGroups { position: 1 }),
        ] {
            assert_eq!(Expression::parse(text), Err(error), "{text}");
        }
        // Nothing that doubles with each word is ever built.
        let deep = (0..100).map(|n| format!("(a{} OR b{})", n % 7, n % 7)).collect::<Vec<_>>().join(" AND ");
        assert_eq!(Expression::parse(&deep), Err(TooManyGroups { position: 1 }));
        // What another group implies does not count.
        let implied = "a AND (a OR (b OR c) AND (d OR e) AND (f OR g) AND (h OR i))";
        assert_eq!(groups(implied), [pair("a", "")]);
        assert_eq!(Expression::parse(&many(15)).unwrap().groups().len(), 1);
    }

    #[test]
    fn groups_are_held_to_the_bounds_of_the_contracts() {
        let name = |name: &str| name.to_owned();
        for (groups, field) in [
            (vec![], "rule.any_of"),
            (vec![(vec![], vec![])], "rule.any_of[0]"),
            (vec![(vec![name("kyc")], vec![]), (vec![], vec![])], "rule.any_of[1]"),
            (vec![(vec![name("kyc")], vec![name("kyc")])], "rule.any_of[0]"),
            (vec![(vec![name("KYC")], vec![])], "rule.any_of[0].all_of[0]"),
            ((0..9).map(|_| (vec![name("kyc")], vec![])).collect(), "rule.any_of"),
            (vec![((0..16).map(|index| format!("t{index}")).collect(), vec![])], "rule.any_of"),
            (vec![(vec![name("kyc")], vec![]), (vec![], vec![name("kyc")])], "rule.any_of"),
        ] {
            let mut violations = Violations::new();
            Expression::of_groups(&mut Fields::new(&mut violations, "rule"), "any_of", &groups);
            assert_eq!(violations.0.len(), 1, "{groups:?} {violations:?}");
            assert_eq!((violations.0[0].field.as_str(), violations.kind()), (field, ViolationKind::ModuleParameters));
        }
    }
}
