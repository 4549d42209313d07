//! What a caller shows: `x-wallet-verification: pin 123456`, `totp 123456` or `recovery XXXX-XXXX-XXXX-XXXX`.

use std::{fmt, str::FromStr, sync::Arc};

use dalp_service::{Reason, Refusal, errors::RefusalResult};
use http::{HeaderMap, HeaderName};
use secrecy::{ExposeSecret as _, SecretString};

use super::recovery;

/// The metadata key and HTTP header. It ends at the gateway.
pub const HEADER: HeaderName = HeaderName::from_static("x-wallet-verification");
/// Longer than anything that can be meant.
const MOST_BYTES: usize = 64;
const DIGITS: usize = 6;

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Factor {
    /// Six digits that the person has chosen.
    Pin,
    /// A password of an authenticator app.
    Totp,
    /// A recovery code.
    Recovery,
}

/// Something shown. Its `Debug` tells the kind only.
#[derive(Clone)]
pub struct Code {
    factor: Factor,
    text: SecretString,
}

/// What came with a call: handed to the gateway's own service, which verifies by itself.
#[derive(Clone, Debug)]
pub struct Presented {
    /// What was shown, or why it does not read.
    pub code: Result<Option<Arc<Code>>, Refusal>,
    /// The caller is a person who signed in at an identity provider.
    pub signed_in: bool,
}

// === impl Factor ===

impl Factor {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Pin, Self::Totp, Self::Recovery];

    /// As it is stored, sent and told.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Totp => "totp",
            Self::Recovery => "recovery",
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Factor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|factor| factor.as_str() == text).ok_or(())
    }
}

// === impl Code ===

impl fmt::Debug for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Code({})", self.factor)
    }
}

impl Code {
    /// A code of a factor; `None` when it has not the form of one.
    #[must_use]
    pub fn of(factor: Factor, text: &str) -> Option<Self> {
        let text = match factor {
            Factor::Pin | Factor::Totp => is_six_digits(text).then(|| text.to_owned())?,
            Factor::Recovery => recovery::normal(text)?,
        };
        Some(Self { factor, text: SecretString::from(text) })
    }

    /// Which factor it is meant for.
    #[must_use]
    pub fn factor(&self) -> Factor {
        self.factor
    }

    /// The text, for comparing.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

/// Whether a text is six ASCII digits.
pub(super) fn is_six_digits(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads the header's value: the kind, a blank, the code.
///
/// # Errors
/// Nothing of the text is quoted in it.
pub fn parse(value: &[u8]) -> RefusalResult<Code> {
    let read = || {
        let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= MOST_BYTES)?;
        let (factor, code) = text.split_once(' ')?;
        Code::of(factor.parse().ok()?, code)
    };
    read().ok_or_else(|| {
        wrong("expected `pin` or `totp` and six digits, or `recovery` and a recovery code, with one blank between")
    })
}

/// Takes the header out of the metadata of a call, so that nothing behind sees it.
pub fn take(headers: &mut HeaderMap) -> RefusalResult<Option<Code>> {
    let mut values = headers.get_all(HEADER).iter();
    let read = match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse(value.as_bytes()).map(Some),
        (Some(_), Some(_)) => Err(wrong("given more than once")),
    };
    headers.remove(HEADER);
    read
}

fn wrong(why: &str) -> Refusal {
    Refusal::new(Reason::InvalidField, format!("the metadata {HEADER} does not read: {why}"))
        .field(HEADER.as_str(), why)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_kinds_read() {
        for (text, factor, code) in [
            ("pin 123456", Factor::Pin, "123456"),
            ("totp 000000", Factor::Totp, "000000"),
            ("recovery ABCD-EFGH-JKMN-PQRS", Factor::Recovery, "ABCDEFGHJKMNPQRS"),
            ("recovery abcdefghjkmnpqrs", Factor::Recovery, "ABCDEFGHJKMNPQRS"),
        ] {
            let read = parse(text.as_bytes()).unwrap();
            assert_eq!((read.factor(), read.expose()), (factor, code), "{text}");
        }
    }

    #[test]
    fn nothing_else_reads_and_nothing_is_quoted() {
        for text in [
            "",
            "pin",
            "pin ",
            "pin 12345",
            "pin 1234567",
            "pin  123456",
            "pin 12345a",
            "PIN 123456",
            "totp 12 456",
            "pin:123456",
            "123456",
            "recovery ABCD",
            "recovery ABCD-EFGH-JKMN-PQRU",
            "bearer 123456",
            "pin 12345６",
        ] {
            let refusal = parse(text.as_bytes()).unwrap_err();
            assert_eq!(refusal.reason(), Reason::InvalidField, "{text}");
            assert!(!refusal.message().contains("1234"), "{text}");
        }
        assert!(parse(&[b'p', b'i', b'n', b' ', 0xff]).is_err());
    }

    #[test]
    fn it_is_taken_out_however_often_it_was_given() {
        let mut headers = HeaderMap::new();
        assert!(take(&mut headers).unwrap().is_none());
        headers.append(HEADER, HeaderValue::from_static("pin 123456"));
        assert_eq!(take(&mut headers).unwrap().unwrap().factor(), Factor::Pin);
        assert!(headers.is_empty());
        headers.append(HEADER, HeaderValue::from_static("pin 123456"));
        headers.append(HEADER, HeaderValue::from_static("pin 123456"));
        assert!(take(&mut headers).is_err());
        assert!(headers.is_empty());
    }

    #[test]
    fn no_debug_text_shows_a_code() {
        let code = parse(b"pin 918273").unwrap();
        assert!(!format!("{code:?}").contains("918273"));
    }

    proptest! {
        #[test]
        fn no_bytes_bring_the_parser_down_or_are_repeated(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(refusal) = parse(&bytes) {
                prop_assert_eq!(refusal.reason(), Reason::InvalidField);
            }
        }

        #[test]
        fn what_reads_is_exactly_what_was_meant(kind in "(pin|totp|recovery|Pin|x)", code in "[0-9A-Za-z-]{0,24}") {
            let text = format!("{kind} {code}");
            match parse(text.as_bytes()) {
                Ok(read) => {
                    prop_assert_eq!(read.factor().as_str(), kind.as_str());
                    prop_assert_eq!(read.expose().to_owned(), code.replace('-', "").to_ascii_uppercase());
                }
                Err(refusal) if code.len() > 6 => prop_assert!(!refusal.message().contains(&code)),
                Err(_) => {}
            }
        }
    }
}
