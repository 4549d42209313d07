//! One-time passwords (RFC 6238) as authenticator apps speak them: SHA-1, six digits, 30 seconds, and one step of drift either way.
//!
//! What makes a password one-time is the step it belongs to: the last one taken stands beside the secret, and the statement that takes another wants a later one.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::{TryRngCore as _, rngs::OsRng};
use secrecy::zeroize::Zeroizing;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use time::OffsetDateTime;
use totp_rs::{Algorithm, TOTP};

use super::store::Person;

/// As RFC 4226 recommends.
const SECRET_BYTES: usize = 20;
const DIGITS: usize = 6;
const STEP_S: u64 = 30;
/// Steps that a clock may be off.
const DRIFT: u64 = 1;

/// The secret of an authenticator app.
pub struct Secret(TOTP);

/// The text is no secret: too short.
#[derive(Debug, thiserror::Error)]
#[error("a secret has at least 16 bytes")]
pub struct NotASecret;

// === impl Secret ===

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn make() -> std::io::Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES]);
        OsRng.try_fill_bytes(&mut bytes).map_err(std::io::Error::other)?;
        Ok(bytes)
    }

    /// Takes its bytes.
    ///
    /// # Errors
    /// When they are too few.
    pub fn new(bytes: &[u8]) -> Result<Self, NotASecret> {
        let totp = TOTP::new(Algorithm::SHA1, DIGITS, 0, STEP_S, bytes.to_vec());
        totp.map(Self).map_err(|_| NotASecret)
    }

    /// The step whose password a code is, if it is one of now; in constant time over all of them. Of two that fit, the latest.
    #[must_use]
    pub fn step_of(&self, code: &str, now: OffsetDateTime) -> Option<i64> {
        let now = u64::try_from(now.unix_timestamp()).ok()? / STEP_S;
        let (mut fits, mut found) = (Choice::from(0), 0_u64);
        for step in now.saturating_sub(DRIFT)..=now + DRIFT {
            let password = Zeroizing::new(self.0.generate(step * STEP_S));
            let equal = password.as_bytes().ct_eq(code.as_bytes());
            found.conditional_assign(&step, equal);
            fits |= equal;
        }
        bool::from(fits).then(|| i64::try_from(found).ok()).flatten()
    }

    /// What an app reads, usually from a QR code.
    #[must_use]
    pub fn uri(&self, issuer: &str, person: Person<'_>) -> Zeroizing<String> {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let account = encoded(&format!("{}@{}", person.principal, person.tenant));
        let (issuer, secret) = (encoded(issuer), Zeroizing::new(self.0.get_secret_base32()));
        Zeroizing::new(format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_S}",
            secret.as_str()
        ))
    }

    /// The password of a time, as the person's app shows it.
    #[must_use]
    pub fn password_at(&self, at: OffsetDateTime) -> Zeroizing<String> {
        Zeroizing::new(self.0.generate(u64::try_from(at.unix_timestamp()).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_s: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(unix_s).unwrap()
    }

    /// Appendix B of RFC 6238, the last six of its eight digits.
    #[test]
    fn the_vectors_of_the_rfc() {
        let secret = Secret::new(b"12345678901234567890").unwrap();
        for (unix_s, password) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(secret.password_at(at(unix_s)).as_str(), password, "{unix_s}");
            assert_eq!(secret.step_of(password, at(unix_s)), Some(unix_s / 30), "{unix_s}");
        }
    }

    #[test]
    fn a_clock_may_be_off_by_one_step_and_no_more() {
        let secret = Secret::new(b"12345678901234567890").unwrap();
        let now = at(1_700_000_010);
        let of = |seconds: i64| secret.password_at(at(1_700_000_010 + seconds));
        let step = 1_700_000_010 / 30;
        for (off, expected) in [(-60, None), (-30, Some(step - 1)), (0, Some(step)), (30, Some(step + 1)), (60, None)] {
            assert_eq!(secret.step_of(&of(off), now), expected, "{off}");
        }
        for wrong in ["", "12345", "1234567", "abcdef"] {
            assert_eq!(secret.step_of(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn the_uri_is_what_apps_read() {
        let secret = Secret::new(b"12345678901234567890").unwrap();
        let uri = secret.uri("Acme Bank", Person { tenant: "acme", principal: "anna@desk" });
        assert_eq!(
            uri.as_str(),
            "otpauth://totp/Acme%20Bank:anna%40desk%40acme?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Acme%20Bank&algorithm=SHA1&digits=6&period=30"
        );
        assert_eq!(Secret::make().unwrap().len(), 20);
        assert_ne!(Secret::make().unwrap(), Secret::make().unwrap());
        assert!(Secret::new(b"short").is_err());
    }
}
