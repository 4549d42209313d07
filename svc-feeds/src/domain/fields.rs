//! Fields that only feeds have: signed values, topics, subjects.

use alloy::primitives::{Address, I256, U256};
use dalp_contracts::encode::topic_id;
use dalp_service::fields::{self, FieldResult, Violations, violation};

/// A signed integer of 256 bits: decimal digits without leading zeros, a minus in front of negative ones.
pub fn value(path: &str, text: &str) -> FieldResult<I256> {
    let expected =
        || violation(path, "not a value: expected a whole decimal number of at most 256 bits, such as -15000");
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = (1..=77).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !digits.starts_with('0');
    if !plain || !canonical {
        return Err(expected());
    }
    I256::from_dec_str(text).map_err(|_| expected())
}

/// The asset or identity that a feed is about; empty: a global feed, whose subject is the zero address.
pub fn subject(path: &str, text: &str) -> FieldResult<Address> {
    if text.is_empty() { Ok(Address::ZERO) } else { fields::nonzero_address(path, text) }
}

/// A topic by its id: decimal, or 0x hex of 32 bytes.
pub fn topic_by_id(path: &str, text: &str) -> FieldResult<U256> {
    if text.starts_with("0x") {
        Ok(U256::from_be_bytes(fields::bytes32(path, text)?.0))
    } else {
        fields::amount(path, text)
    }
}

/// A topic by name, by id, or by both, which must then agree.
pub fn topic(violations: &mut Violations, name: &str, id: &str) -> U256 {
    let by_name = (!name.is_empty())
        .then(|| violations.check(topic_name("topic_name", name)))
        .flatten()
        .map(|name| topic_id(&name));
    let by_id = (!id.is_empty()).then(|| violations.check(topic_by_id("topic_id", id))).flatten();
    match (by_name, by_id) {
        (Some(by_name), Some(by_id)) if by_name != by_id => {
            violations.push("topic_id", format!("is not the id of {name}: that is {by_name:#066x}"));
        }
        (None, None) if name.is_empty() && id.is_empty() => {
            violations.push("topic_name", "is missing: give topic_name or topic_id");
        }
        _ => {}
    }
    by_name.or(by_id).unwrap_or_default()
}

fn topic_name(path: &str, name: &str) -> FieldResult<String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        Ok(name.to_owned())
    } else {
        Err(violation(path, "must be 1 to 64 of [a-z0-9._-]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_signed_decimals_of_256_bits() {
        for text in ["0", "1", "-1", &I256::MAX.to_string(), &I256::MIN.to_string()] {
            assert_eq!(value("value", text).unwrap().to_string(), text);
        }
        let above = "57896044618658097711785492504343953926634992332820282019728792003956564819968";
        let bad = ["", "-", "-0", "01", "-01", "+1", "1.5", "1e3", "0x1", " 1", above, &format!("-{above}9"), "٣"];
        for text in bad {
            assert!(value("value", text).is_err(), "{text:?}");
        }
        assert!(value("value", &format!("-{above}")).is_ok(), "the least value");
    }

    #[test]
    fn name_and_id_must_agree() {
        let id = format!("{:#066x}", topic_id("price"));
        let decimal = topic_id("price").to_string();
        for (name, given) in [("price", ""), ("", id.as_str()), ("", decimal.as_str()), ("price", id.as_str())] {
            let mut violations = Violations::new();
            assert_eq!(topic(&mut violations, name, given), topic_id("price"));
            assert!(violations.finish().is_ok());
        }
        for (name, given, field) in [
            ("", "", "topic_name"),
            ("nav", id.as_str(), "topic_id"),
            ("Price", "", "topic_name"),
            ("", "0x1", "topic_id"),
        ] {
            let mut violations = Violations::new();
            topic(&mut violations, name, given);
            let refusal = violations.finish().unwrap_err();
            assert_eq!(refusal.violations()[0].0, field, "{name} {given}");
        }
    }

    #[test]
    fn a_global_feed_has_no_subject() {
        assert_eq!(subject("subject", "").unwrap(), Address::ZERO);
        assert!(subject("subject", "0x0000000000000000000000000000000000000000").is_err());
        assert!(subject("subject", "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045").is_ok());
    }
}
