//! What a PKCS#11 return code means for a request. One table; vendor codes are those of Luna 7.

use std::collections::BTreeMap;

use cryptoki::error::RvError;
use serde::Deserialize;

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A person has to act; try again until the deadline.
    Quorum,
    /// The PIN is wrong. Never tried twice.
    BadPin,
    /// Locked, disabled, zeroised or barred. An operator has to act.
    Locked,
    /// A login ended with a vendor's code that stands in no list. Most likely a person has to act, but it may have been a refused PIN.
    #[serde(skip)]
    Unlisted,
    /// There is no token of the label.
    #[serde(skip)]
    NoToken,
    /// There are several.
    #[serde(skip)]
    SeveralTokens,
    /// The token does not hold the key.
    #[serde(skip)]
    NoKey,
    /// The connection or the session is gone. Restart the worker and try again.
    Transport,
    /// Repeating does not mend it.
    Failed,
}

/// Whether the code came out of `C_Login`, where some codes mean something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum During {
    /// `C_Login`.
    Login,
    /// Anything else.
    Use,
}

/// The worker's own word for a token that is not there; above every code that a module can return.
pub const NO_TOKEN: u64 = 1 << 32;
/// Likewise for a label that several tokens have.
pub const SEVERAL_TOKENS: u64 = 2 << 32;
/// Likewise for a key that the token does not hold.
pub const NO_KEY: u64 = 3 << 32;
/// `KEY_NOT_AUTHORIZED`: the key has an authorisation of its own.
pub const KEY_NOT_AUTHORIZED: u64 = 0x8000_0097;

const CKR_GENERAL_ERROR: u64 = 0x05;
/// Luna's own library numbers errors so: the code of the standard it suggests in the upper half, its own detail in the lower.
const RAW: std::ops::Range<u64> = 0x1_0000..VENDOR;
const CKR_FUNCTION_CANCELED: u64 = 0x50;
const CKR_USER_NOT_LOGGED_IN: u64 = 0x101;
const CKR_DEVICE_TIMEOUT: u64 = 0x8000_002B;
/// First code that a vendor may define.
const VENDOR: u64 = 0x8000_0000;

/// Codes that mean "a person has to act", unless configuration says otherwise. Which of them a firmware returns is not public.
pub const QUORUM: &[u64] = &[
    0x8000_001A, // USER_NOT_AUTHORIZED
    0x8000_002D, // PED_CLIENT_NOT_RUNNING
    0x8000_002E, // PED_UNPLUGGED
    0x8000_009D, // PED_UNSUPPORTED
    0x8000_009E, // PED_ERROR
    0x8000_0021, // CALLBACK_ERROR
    0x8000_0023, // SP_TIMEOUT
    0x8000_0024, // TIMEOUT
    KEY_NOT_AUTHORIZED,
    0x8000_0136, // KEY_NOT_ACTIVE
    0x8000_020B, // M_OF_N_ACTIVATION_REQUIRED
    0x8000_0207, // MISSING_SPLITS
];

const BAD_PIN: &[u64] = &[
    0xA0,        // PIN_INCORRECT
    0xA1,        // PIN_INVALID
    0xA2,        // PIN_LEN_RANGE
    0x8000_0067, // CHALLENGE_INCORRECT
    0x8000_0098, // AUTH_DATA_INCORRECT
    0x8000_009C, // AUTH_DATA_INCORRECT_AND_LIMIT_REACHED
];

const LOCKED: &[u64] = &[
    0xA4,        // PIN_LOCKED
    0xA3,        // PIN_EXPIRED
    0x70,        // MECHANISM_INVALID: the curve is barred, for instance by FIPS mode
    0x8000_0007, // USER_LOCKED_OUT
    0x8000_0020, // PARTITION_DISABLED
    0x8000_0076, // HSM_TAMPERED
    0x8000_001C, // SO_LOGIN_FAILURE_THRESHOLD
    0x8000_0030, // OPERATION_NOT_ALLOWED
    0x8000_0025, // ECC_UNKNOWN_CURVE
];

/// Of those, the ones by which a login is told that wrong PINs have locked the user.
const PIN_LOCKED: &[u64] = &[
    0xA4,        // PIN_LOCKED
    0x8000_0007, // USER_LOCKED_OUT
    0x8000_001C, // SO_LOGIN_FAILURE_THRESHOLD
];

const TRANSPORT: &[u64] = &[
    0x30,        // DEVICE_ERROR
    0x32,        // DEVICE_REMOVED
    0xE0,        // TOKEN_NOT_PRESENT
    0xB3,        // SESSION_HANDLE_INVALID
    0xB0,        // SESSION_CLOSED
    0x190,       // CRYPTOKI_NOT_INITIALIZED
    0x60,        // KEY_HANDLE_INVALID: the handles we remember are of an earlier life of the device
    0x82,        // OBJECT_HANDLE_INVALID, likewise
    0x8000_001F, // UNABLE_TO_CONNECT
    0x8000_0004, // RC_ERROR
    0x8000_0005, // CONTAINER_HANDLE_INVALID
    0x8000_0041, // AGAIN
    0x8000_1604, // BUSY
];

/// Secure trusted channel errors of Luna, a whole range.
const STC: std::ops::RangeInclusive<u64> = 0x8000_0045..=0x8000_0066;

/// What a code that tells of the PIN means, in either of its forms. No configuration changes that: a wrong PIN called harmless would be tried again and
/// again, and so would a login at a partition that has locked.
#[must_use]
pub fn of_the_pin(code: u64) -> Option<Class> {
    let code = standard(code);
    if BAD_PIN.contains(&code) {
        return Some(Class::BadPin);
    }
    PIN_LOCKED.contains(&code).then_some(Class::Locked)
}

/// The code of the standard that a number of the vendor's own library suggests.
const fn standard(code: u64) -> u64 {
    if code >= RAW.start && code < RAW.end { code >> 16 } else { code }
}

/// Classifies a return code. `configured` comes before the built-in lists, but for what tells of the PIN.
#[must_use]
pub fn classify(code: u64, during: During, configured: &BTreeMap<u64, Class>) -> Class {
    let login = during == During::Login;
    match code {
        NO_TOKEN => return Class::NoToken,
        SEVERAL_TOKENS => return Class::SeveralTokens,
        NO_KEY => return Class::NoKey,
        _ => {}
    }
    if let Some(class) = of_the_pin(code) {
        return class;
    }
    if let Some(class) = configured.get(&code) {
        return *class;
    }
    let code = standard(code);
    if LOCKED.contains(&code) {
        Class::Locked
    } else if QUORUM.contains(&code) || (login && matches!(code, CKR_DEVICE_TIMEOUT | CKR_FUNCTION_CANCELED)) {
        Class::Quorum
    } else if TRANSPORT.contains(&code)
        || STC.contains(&code)
        || code == CKR_DEVICE_TIMEOUT
        || code == CKR_USER_NOT_LOGGED_IN
    {
        // Not logged in after a login means that the device restarted underneath: a fresh worker logs in once more.
        Class::Transport
    } else if login && code >= VENDOR {
        Class::Unlisted
    } else {
        Class::Failed
    }
}

/// The numeric code of an error, as far as the table distinguishes it.
#[must_use]
pub fn code_of(error: &RvError) -> u64 {
    match error {
        RvError::VendorDefined(code) | RvError::UnknownErrorCode(code) => *code,
        RvError::DeviceError => 0x30,
        RvError::DeviceRemoved => 0x32,
        RvError::FunctionCanceled => CKR_FUNCTION_CANCELED,
        RvError::KeyHandleInvalid => 0x60,
        RvError::MechanismInvalid => 0x70,
        RvError::ObjectHandleInvalid => 0x82,
        RvError::PinIncorrect => 0xA0,
        RvError::PinInvalid => 0xA1,
        RvError::PinLenRange => 0xA2,
        RvError::PinExpired => 0xA3,
        RvError::PinLocked => 0xA4,
        RvError::SessionClosed => 0xB0,
        RvError::SessionHandleInvalid => 0xB3,
        RvError::TokenNotPresent => 0xE0,
        RvError::UserAlreadyLoggedIn => 0x100,
        RvError::UserNotLoggedIn => CKR_USER_NOT_LOGGED_IN,
        RvError::CryptokiNotInitialized => 0x190,
        _ => CKR_GENERAL_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_without_contradictions() {
        for list in [QUORUM, BAD_PIN, LOCKED, TRANSPORT] {
            for code in list {
                let found = [QUORUM, BAD_PIN, LOCKED, TRANSPORT].iter().filter(|list| list.contains(code)).count();
                assert_eq!(found, 1, "{code:#x}");
                assert!(list == TRANSPORT || !STC.contains(code) || list.contains(code));
            }
        }
    }

    #[test]
    fn codes_mean_what_the_vendor_says() {
        let class = |code, during| classify(code, during, &BTreeMap::new());
        assert_eq!(class(0xA0, During::Login), Class::BadPin);
        assert_eq!(class(0xA4, During::Login), Class::Locked);
        assert_eq!(class(0x8000_002E, During::Login), Class::Quorum);
        assert_eq!(class(0x50, During::Login), Class::Quorum);
        assert_eq!(class(0x50, During::Use), Class::Failed);
        assert_eq!(class(0x8000_002B, During::Use), Class::Transport);
        assert_eq!(class(0x8000_002B, During::Login), Class::Quorum);
        assert_eq!(class(0x8000_7777, During::Login), Class::Unlisted, "unknown at login");
        for code in [0x8000_0098, 0x8000_009C, 0x00A0_0000, 0x00A0_0002] {
            assert_eq!(class(code, During::Login), Class::BadPin, "{code:#x}");
        }
        assert_eq!(class(0x0030_0142, During::Login), Class::Transport, "PED unplugged, raw");
        assert_eq!(code_of(&RvError::UnknownErrorCode(0x00A0_0000)), 0x00A0_0000);
        assert_eq!(class(0x8000_7777, During::Use), Class::Failed, "unknown at use");
        assert_eq!(class(0x101, During::Use), Class::Transport);
        assert_eq!(class(code_of(&RvError::KeyHandleInvalid), During::Use), Class::Transport);
        assert_eq!(class(0x05, During::Use), Class::Failed);
        assert_eq!(class(NO_TOKEN, During::Use), Class::NoToken);
        for code in BAD_PIN.iter().chain(PIN_LOCKED).copied().chain([0x00A0_0000, 0x00A0_0002, 0x00A4_0001]) {
            for class in [Class::Quorum, Class::Transport, Class::Failed, Class::Locked, Class::BadPin] {
                let told = classify(code, During::Login, &BTreeMap::from([(code, class)]));
                assert_eq!(Some(told), of_the_pin(code), "{code:#x} stays what it is, not {class:?}");
            }
        }
        assert!(PIN_LOCKED.iter().all(|code| LOCKED.contains(code)));
        let configured = BTreeMap::from([(0x8000_002E, Class::Failed), (0x8000_7777, Class::Quorum)]);
        assert_eq!(classify(0x8000_002E, During::Use, &configured), Class::Failed, "the table is configuration");
        assert_eq!(classify(0x8000_7777, During::Use, &configured), Class::Quorum);
    }
}
