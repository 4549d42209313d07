//! Recovery codes: sixteen characters without look-alikes, 80 random bits, on paper as XXXX-XXXX-XXXX-XXXX.
//!
//! A digest is enough to keep, as of an API key: there is nothing to guess from a dictionary.

use rand::{TryRngCore as _, rngs::OsRng};
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

use super::store::Person;

/// How many are made at once.
pub const CODES: usize = 10;
const CHARACTERS: usize = 16;
/// Digits and letters without I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A code without hyphens and in capitals; `None` when it is none.
#[must_use]
pub fn normal(text: &str) -> Option<String> {
    let plain: String =
        text.chars().filter(|&character| character != '-').map(|one| one.to_ascii_uppercase()).collect();
    let grouped = text.len() == plain.len() || text.split('-').all(|group| group.len() == 4);
    (grouped && plain.len() == CHARACTERS && plain.bytes().all(|byte| ALPHABET.contains(&byte))).then_some(plain)
}

/// New codes as they are written down.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn make() -> std::io::Result<Vec<Zeroizing<String>>> {
    (0..CODES)
        .map(|_| {
            let mut bytes = Zeroizing::new([0_u8; CHARACTERS]);
            OsRng.try_fill_bytes(bytes.as_mut_slice()).map_err(std::io::Error::other)?;
            let mut text = Zeroizing::new(String::with_capacity(CHARACTERS + 3));
            for (index, byte) in bytes.iter().enumerate() {
                if index > 0 && index % 4 == 0 {
                    text.push('-');
                }
                text.push(char::from(ALPHABET[usize::from(byte % 32)]));
            }
            Ok(text)
        })
        .collect()
}

/// What is kept of a code that was brought into its normal form.
#[must_use]
pub fn digest(person: Person<'_>, normal: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in ["dalp.gateway.recovery.v1", person.tenant, person.principal, normal] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_differ_and_read() {
        let codes = make().unwrap();
        let all: BTreeSet<String> = codes.iter().map(|code| normal(code).unwrap()).collect();
        assert_eq!(all.len(), CODES);
        assert!(codes.iter().all(|code| code.len() == 19 && code.split('-').count() == 4));
        assert_eq!(normal(&codes[0].to_lowercase()), normal(&codes[0]));
    }

    #[test]
    fn a_digest_is_of_one_person() {
        let digest_of = |tenant, principal| digest(Person { tenant, principal }, "ABCDEFGHJKMNPQRS");
        let all = [digest_of("a", "bc"), digest_of("ab", "c"), digest_of("a", "b")];
        assert_eq!(BTreeSet::from(all).len(), 3);
    }
}
