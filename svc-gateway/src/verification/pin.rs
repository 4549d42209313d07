//! PINs: six digits, argon2id. So many are hashed at once as the process has places; who comes beyond that waits shortly and hears OVERLOADED, so that nobody
//! takes the processors or the memory of others.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Params, Version};
use dalp_service::{Reason, Refusal, errors::RefusalResult};
use rand::{TryRngCore as _, rngs::OsRng};
use secrecy::zeroize::Zeroizing;
use subtle::ConstantTimeEq as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::header::is_six_digits;
use crate::metric_definitions as names;

/// What OWASP recommends for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_LEN: usize = 16;
const HASH_LEN: usize = 32;
/// First byte of a record; a change of algorithm takes the next number. Changed costs need none: they are part of the record.
const VERSION: u8 = 1;
const RECORD_LEN: usize = 1 + 3 * 4 + SALT_LEN + HASH_LEN;
/// How long somebody waits for a place.
const WAIT: Duration = Duration::from_secs(2);

/// Hashes, a bounded number at once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hasher {
    places: Arc<Semaphore>,
}

/// A place among those who hash.
#[derive(Debug)]
pub struct Place {
    _held: OwnedSemaphorePermit,
}

/// What is kept of a PIN: costs, salt and hash.
#[derive(Clone)]
pub struct Record([u8; RECORD_LEN]);

/// Compared against where there is no PIN, so that the answer takes as long as where there is one.
static NOBODYS: LazyLock<Record> = LazyLock::new(|| {
    let mut bytes = [0; RECORD_LEN];
    bytes[0] = VERSION;
    for (place, cost) in bytes[1..13].chunks_exact_mut(4).zip([MEMORY_KIB, PASSES, LANES]) {
        place.copy_from_slice(&cost.to_be_bytes());
    }
    Record(bytes)
});

/// Whether a text may be somebody's PIN; what everybody tries first may not.
///
/// # Errors
/// What is wrong with it, without quoting it.
pub fn acceptable(text: &str) -> Result<(), &'static str> {
    if !is_six_digits(text) {
        return Err("a PIN is six digits");
    }
    let digits: Vec<i16> = text.bytes().map(|byte| i16::from(byte - b'0')).collect();
    let difference = |by: i16| digits.windows(2).all(|pair| (pair[1] - pair[0]).rem_euclid(10) == by.rem_euclid(10));
    match difference(0) || difference(1) || difference(-1) {
        true => Err("a PIN is not six times the same digit and no row such as 123456"),
        false => Ok(()),
    }
}

// === impl Hasher ===

impl Hasher {
    /// With so many places.
    #[must_use]
    pub fn new(places: u32) -> Self {
        Self { places: Arc::new(Semaphore::new(places as usize)) }
    }

    /// Takes a place: before a try is counted, so that nobody is charged for one that was not looked at.
    ///
    /// # Errors
    /// OVERLOADED when none becomes free soon.
    pub async fn place(&self) -> RefusalResult<Place> {
        let free = tokio::time::timeout(WAIT, Arc::clone(&self.places).acquire_owned()).await;
        free.ok()
            .and_then(Result::ok)
            .map(|held| Place { _held: held })
            .ok_or_else(|| Refusal::new(Reason::Overloaded, "too many PINs are looked at just now").retry_after(WAIT))
    }

    /// What to keep of a PIN.
    ///
    /// # Errors
    /// INTERNAL when there is no randomness or memory.
    pub async fn record(&self, place: Place, pin: &str) -> RefusalResult<Record> {
        let mut salt = [0; SALT_LEN];
        OsRng.try_fill_bytes(&mut salt).map_err(std::io::Error::other).map_err(Refusal::internal)?;
        let mut bytes = NOBODYS.0;
        bytes[13..13 + SALT_LEN].copy_from_slice(&salt);
        let hash = hashed(place, Record(bytes), pin).await?;
        bytes[13 + SALT_LEN..].copy_from_slice(hash.as_slice());
        Ok(Record(bytes))
    }

    /// Whether a PIN is that of a record; without one it is not, and that takes as long.
    ///
    /// # Errors
    /// INTERNAL when what is stored does not read.
    pub async fn matches(&self, place: Place, record: Option<&[u8]>, pin: &str) -> RefusalResult<bool> {
        let record = match record {
            Some(bytes) => {
                let bytes = bytes.try_into().ok().filter(|bytes: &[u8; RECORD_LEN]| bytes[0] == VERSION);
                Some(Record(
                    bytes.ok_or_else(|| Refusal::internal(std::io::Error::other("a stored PIN does not read")))?,
                ))
            }
            None => None,
        };
        let compared = record.clone().unwrap_or_else(|| NOBODYS.clone());
        let hash = hashed(place, compared.clone(), pin).await?;
        let equal = bool::from(hash.as_slice().ct_eq(&compared.0[13 + SALT_LEN..]));
        Ok(equal && record.is_some())
    }
}

/// Hashes with the costs and the salt of a record, on a thread that may be busy.
async fn hashed(place: Place, record: Record, pin: &str) -> RefusalResult<Zeroizing<[u8; HASH_LEN]>> {
    let pin = Zeroizing::new(pin.to_owned());
    let work = move || {
        let begun = Instant::now();
        let cost = |index: usize| {
            let at = 1 + 4 * index;
            record.0[at..at + 4].try_into().map(u32::from_be_bytes).unwrap_or(0)
        };
        let params = Params::new(cost(0), cost(1), cost(2), Some(HASH_LEN))?;
        let mut hash = Zeroizing::new([0; HASH_LEN]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(pin.as_bytes(), &record.0[13..13 + SALT_LEN], hash.as_mut_slice())?;
        metrics::histogram!(names::GATEWAY_PIN_HASH_SECONDS).record(begun.elapsed().as_secs_f64());
        drop(place);
        Ok::<_, argon2::Error>(hash)
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(Refusal::internal)?;
    done.map_err(|error| Refusal::internal(std::io::Error::other(error.to_string())))
}

// === impl Record ===

impl Record {
    /// For sealing.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_tries_first_is_no_pin() {
        for bad in
            ["", "12345", "1234567", "abcdef", "000000", "777777", "123456", "654321", "890123", "210987", "１23456"]
        {
            assert!(acceptable(bad).is_err(), "{bad}");
        }
        for good in ["918273", "000001", "135790"] {
            assert!(acceptable(good).is_ok(), "{good}");
        }
    }

    #[tokio::test]
    async fn the_right_pin_matches_and_no_other_and_no_two_records_are_equal() {
        let hasher = Hasher::new(2);
        let record = hasher.record(hasher.place().await.unwrap(), "918273").await.unwrap();
        let again = hasher.record(hasher.place().await.unwrap(), "918273").await.unwrap();
        assert_ne!(record.as_bytes(), again.as_bytes(), "each has its salt");
        let matches = async |record: Option<&[u8]>, pin: &str| {
            hasher.matches(hasher.place().await.unwrap(), record, pin).await.unwrap()
        };
        assert!(matches(Some(record.as_bytes()), "918273").await);
        assert!(!matches(Some(record.as_bytes()), "918274").await);
        assert!(!matches(None, "918273").await);
        let place = hasher.place().await.unwrap();
        assert!(hasher.matches(place, Some(b"short"), "918273").await.is_err());
    }

    #[tokio::test]
    async fn beyond_the_places_one_hears_overloaded_and_is_let_in_again_after() {
        let hasher = Hasher::new(1);
        let held = hasher.place().await.unwrap();
        assert_eq!(hasher.place().await.unwrap_err().reason(), Reason::Overloaded);
        drop(held);
        hasher.place().await.unwrap();
    }
}
