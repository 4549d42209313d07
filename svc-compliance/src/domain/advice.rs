//! What to do about a veto, with the numbers of the case.

use super::compliance::{Cure, RULE_FAILED, cure_of};
use std::collections::BTreeMap;

/// What was judged, by name: amounts in base units, addresses, times in unix seconds.
pub type Figures = BTreeMap<String, String>;

/// A veto with its cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veto {
    /// Reason code.
    pub reason: String,
    /// Who can cure it.
    pub cure: Cure,
    /// How.
    pub advice: String,
}

/// The cure of a reason code, told with what was judged.
#[must_use]
pub fn veto(reason: &str, figures: &Figures) -> Veto {
    let (cure, general) = match reason {
        RULE_FAILED => {
            (Cure::Operator, "the rule does not answer, so nothing moves; governance replaces or removes it")
        }
        _ => cure_of(reason),
    };
    let advice = match of_the_case(reason, figures) {
        Some(numbers) => format!("{general} ({numbers})"),
        None => general.to_owned(),
    };
    Veto { reason: reason.to_owned(), cure, advice }
}

/// The numbers that decided; none when they are not known.
fn of_the_case(reason: &str, figures: &Figures) -> Option<String> {
    let get = |name: &str| figures.get(name).map(String::as_str);
    let numbers = match reason {
        "BALANCE_TOO_LOW" => format!("balance {}, needed {}", get("balance")?, get("needed")?),
        "FREE_BALANCE_TOO_LOW" => format!(
            "free balance {}, needed {}; frozen {}, held {}",
            get("free")?,
            get("needed")?,
            get("frozen")?,
            get("held")?
        ),
        "BALANCE_HELD" => {
            format!("balance {}, of it held {}, needed {}", get("balance")?, get("held")?, get("needed")?)
        }
        "SUPPLY_TOO_LARGE" => {
            format!("supply {}, asked {}, at most {}", get("supply")?, get("needed")?, get("limit")?)
        }
        "NOT_REGISTERED" => match get("successor") {
            Some(successor) => format!("the wallet was recovered from; {successor} acts in its place"),
            None => format!("wallet {}", get("wallet")?),
        },
        "COUNTRY_UNKNOWN" => format!("wallet {}", get("wallet")?),
        "COUNTRY_NOT_ALLOWED" => format!("country {}, allowed {}", get("country")?, get("countries")?),
        "COUNTRY_BLOCKED" => format!("country {}, barred {}", get("country")?, get("countries")?),
        "SENDER_NOT_LISTED" | "SENDER_BLOCKED" => {
            format!("wallet {}, identity {}", get("sender")?, get("sender_identity")?)
        }
        "RECIPIENT_NOT_LISTED" | "RECIPIENT_BLOCKED" => {
            format!("wallet {}, identity {}", get("recipient")?, get("recipient_identity")?)
        }
        "HOLDER_LIMIT_REACHED" => format!("holders {}, at most {}", get("holders")?, get("limit")?),
        "HOLDER_LIMIT_OF_COUNTRY_REACHED" => format!(
            "holders from country {}: {}, at most {}",
            get("country")?,
            get("holders_of_country")?,
            get("limit_of_country")?
        ),
        "ISSUANCE_CAP_EXCEEDED" => {
            format!("supply {}, asked {}, at most {}", get("supply")?, get("needed")?, get("supply_limit")?)
        }
        "ISSUANCE_LIFETIME_EXCEEDED" => {
            format!("issued {}, asked {}, at most {}", get("lifetime_used")?, get("needed")?, get("lifetime_limit")?)
        }
        "ISSUANCE_WINDOW_EXCEEDED" => format!(
            "issued {} in the window of {} s, asked {}, at most {}",
            get("window_used")?,
            get("window_s")?,
            get("needed")?,
            get("window_limit")?
        ),
        "ISSUANCE_PRICE_UNAVAILABLE"
        | "ISSUANCE_PRICE_STALE"
        | "COLLATERAL_PRICE_UNAVAILABLE"
        | "COLLATERAL_PRICE_STALE" => {
            format!("feed {}, at most {} s old", get("feed")?, get("max_age_s")?)
        }
        "HOLDING_PERIOD_NOT_OVER" => {
            format!("held for {} days: {}, needed {}", get("days")?, get("free")?, get("needed")?)
        }
        "TRANSFER_NOT_APPROVED" => format!("approvers: {}", get("approvers")?),
        "TRANSFER_APPROVAL_EXPIRED" => format!("expired at {}; approvers: {}", get("expires_at")?, get("approvers")?),
        "TRANSFER_AMOUNT_EXCEEDED" => format!("asked {}, at most {} at a time", get("needed")?, get("limit")?),
        "HOLDER_VOLUME_EXCEEDED" => volume("holder", figures)?,
        "TOKEN_VOLUME_EXCEEDED" => volume("token", figures)?,
        "COLLATERAL_MISSING" | "COLLATERAL_MALFORMED" => {
            format!("topic {}, asset identity {}", get("topic")?, get("asset_identity")?)
        }
        "COLLATERAL_TOO_LOW" => format!("collateral {}, needed {}", get("collateral")?, get("collateral_needed")?),
        "FEE_COLLECTOR_NOT_VERIFIED" => format!("collector {}", get("collector")?),
        RULE_FAILED => get("failure")?.to_owned(),
        _ => return None,
    };
    Some(numbers)
}

fn volume(whose: &str, figures: &Figures) -> Option<String> {
    let get = |name: &str| figures.get(&format!("{whose}_{name}")).map(String::as_str);
    let needed = figures.get("needed")?;
    Some(format!(
        "used {} in the window of {} s, asked {needed}, at most {}",
        get("used")?,
        get("window_s")?,
        get("limit")?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::compliance::REASONS;

    fn figures(pairs: &[(&str, &str)]) -> Figures {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn advice_says_what_to_do_with_numbers() {
        let told = veto(
            "FREE_BALANCE_TOO_LOW",
            &figures(&[("free", "10"), ("needed", "25"), ("frozen", "15"), ("held", "0")]),
        );
        assert_eq!(told.cure, Cure::ComplianceOfficer);
        assert!(told.advice.ends_with("(free balance 10, needed 25; frozen 15, held 0)"), "{}", told.advice);
        let told = veto("HOLDER_VOLUME_EXCEEDED", &figures(&[("needed", "5"), ("holder_used", "8")]));
        assert_eq!(told.advice, cure_of("HOLDER_VOLUME_EXCEEDED").1, "without all the numbers, none");
    }

    #[test]
    fn every_code_has_advice() {
        for (code, cure, advice) in REASONS {
            let told = veto(code, &Figures::new());
            assert_eq!((told.cure, told.advice.as_str()), (*cure, *advice));
        }
        assert_eq!(veto("A_FOREIGN_CODE", &Figures::new()).cure, Cure::Operator);
        assert!(veto(RULE_FAILED, &figures(&[("failure", "boom")])).advice.ends_with("(boom)"));
    }
}
