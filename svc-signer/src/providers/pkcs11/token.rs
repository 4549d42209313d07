//! Finding, initialising and filling a token through cryptoki. Runs in the worker and in `init-token`, never in the signer itself.

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::Error,
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};

use super::{
    codes,
    wire::{Failure, PinState},
};

/// Object identifier of secp256k1 in DER.
const SECP256K1: [u8; 7] = [0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x0A];
/// `CKU_LIMITED_USER` of Luna: may sign, may not create.
const CRYPTO_USER: u32 = 0x8000_0001;

/// Loads a module. Once per process: two contexts are undefined behaviour in most modules.
pub(crate) fn load(module: &str) -> Result<Pkcs11, Failure> {
    let context = Pkcs11::new(module).map_err(|error| failure(&error))?;
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(|error| failure(&error))?;
    Ok(context)
}

/// The slot whose token has this label. Slots that cannot be read are passed over: one broken token must not hide the others.
pub(crate) fn find(context: &Pkcs11, label: &str) -> Result<Slot, Failure> {
    let slots = context.get_slots_with_token().map_err(|error| failure(&error))?;
    let mut found = slots.into_iter().filter(|slot| {
        context.get_token_info(*slot).is_ok_and(|token| token.label().trim_end_matches([' ', '\0']) == label)
    });
    match (found.next(), found.next()) {
        (Some(slot), None) => Ok(slot),
        (None, _) => Err(own(codes::NO_TOKEN, format!("no token is labelled {label:?}"))),
        (Some(_), Some(_)) => Err(own(codes::SEVERAL_TOKENS, format!("several tokens are labelled {label:?}"))),
    }
}

/// What the token tells of wrong PINs. Needs no login.
pub(crate) fn pin_state(context: &Pkcs11, slot: Slot) -> Result<PinState, Failure> {
    let token = context.get_token_info(slot).map_err(|error| failure(&error))?;
    Ok(PinState {
        wrong_before: token.user_pin_count_low(),
        last_try: token.user_pin_final_try(),
        locked: token.user_pin_locked(),
    })
}

/// A failure that the worker found by itself.
pub(crate) fn own(code: u64, detail: impl Into<String>) -> Failure {
    Failure { code, login: false, detail: detail.into() }
}

/// Logs the whole process in. Being logged in already is success.
pub(crate) fn login(session: &Session, crypto_user: bool, pin: &str) -> Result<(), Failure> {
    let user = if crypto_user { UserType::VendorExtension(CRYPTO_USER) } else { UserType::User };
    match session.login(user, Some(&AuthPin::from(pin.to_owned()))) {
        Ok(()) => Ok(()),
        Err(error) => match failure(&error) {
            Failure { code: 0x100, .. } => Ok(()),
            other => Err(Failure { login: true, ..other }),
        },
    }
}

/// The private key of this id.
pub(crate) fn private_key(session: &Session, key_id: &[u8; 32]) -> Result<Option<ObjectHandle>, Failure> {
    one(session, ObjectClass::PRIVATE_KEY, key_id)
}

/// Signs a digest: r || s, s possibly high.
pub(crate) fn sign(session: &Session, key: ObjectHandle, digest: &[u8; 32]) -> Result<Vec<u8>, Failure> {
    session.sign(&Mechanism::Ecdsa, key, digest).map_err(|error| failure(&error))
}

/// Finds the key pair of this id, or generates one where that is allowed, and returns its uncompressed public key. A private key that could leave
/// the token, because somebody put it there so, is none.
pub(crate) fn find_or_generate(
    session: &Session,
    label: &str,
    key_id: &[u8; 32],
    may_create: bool,
) -> Result<Vec<u8>, Failure> {
    let public = match (one(session, ObjectClass::PUBLIC_KEY, key_id)?, private_key(session, key_id)?) {
        (Some(public), Some(private)) => {
            stays_inside(session, private)?;
            public
        }
        (None, None) if may_create => generate(session, label, key_id)?,
        _ => return Err(own(codes::NO_KEY, format!("the token holds no key pair labelled {label}"))),
    };
    let attributes = session.get_attributes(public, &[AttributeType::EcPoint]).map_err(|error| failure(&error))?;
    let point = attributes.into_iter().find_map(|attribute| match attribute {
        Attribute::EcPoint(point) => Some(point),
        _ => None,
    });
    uncompressed(point.as_deref().unwrap_or_default()).ok_or_else(|| own(0, "the module returned no usable EC point"))
}

fn stays_inside(session: &Session, private: ObjectHandle) -> Result<(), Failure> {
    let wanted = [AttributeType::Sensitive, AttributeType::Extractable];
    let found = session.get_attributes(private, &wanted).map_err(|error| failure(&error))?;
    if found.contains(&Attribute::Sensitive(true)) && found.contains(&Attribute::Extractable(false)) {
        return Ok(());
    }
    Err(own(0, "the token would give this private key out (it is extractable or not sensitive); it is not used"))
}

/// Initialises a fresh token: SO PIN, label, user PIN. Refuses where a token of that label exists.
pub(crate) fn initialise(module: &str, label: &str, so_pin: &str, pin: &str) -> Result<(), Failure> {
    let context = load(module)?;
    let refused = |detail: &str| own(0, detail);
    if find(&context, label).is_ok() {
        return Err(refused("a token of this label exists; it is left alone"));
    }
    let slots = context.get_slots_with_token().map_err(|error| failure(&error))?;
    let blank = slots
        .into_iter()
        .find(|slot| context.get_token_info(*slot).is_ok_and(|token| !token.token_initialized()))
        .ok_or_else(|| refused("there is no slot with an uninitialised token"))?;
    let so_pin = AuthPin::from(so_pin.to_owned());
    context.init_token(blank, &so_pin, label).map_err(|error| failure(&error))?;
    let slot = find(&context, label)?;
    let session = context.open_rw_session(slot).map_err(|error| failure(&error))?;
    session.login(UserType::So, Some(&so_pin)).map_err(|error| failure(&error))?;
    session.init_pin(&AuthPin::from(pin.to_owned())).map_err(|error| failure(&error))
}

/// Reads what a library error means.
pub(crate) fn failure(error: &Error) -> Failure {
    match error {
        Error::Pkcs11(rv, function) => {
            let code = codes::code_of(rv);
            // The function's name as the standard and the vendors' manuals spell it.
            Failure { code, login: false, detail: format!("C_{function:?} returned {rv} ({code:#010x})") }
        }
        other => own(0, other.to_string()),
    }
}

fn one(session: &Session, class: ObjectClass, key_id: &[u8; 32]) -> Result<Option<ObjectHandle>, Failure> {
    let template = [Attribute::Class(class), Attribute::Id(key_id.to_vec())];
    let found = session.find_objects(&template).map_err(|error| failure(&error))?;
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        _ => Err(own(0, "several objects carry this key's CKA_ID")),
    }
}

fn generate(session: &Session, label: &str, key_id: &[u8; 32]) -> Result<ObjectHandle, Failure> {
    let public = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::KeyType(KeyType::EC),
        Attribute::EcParams(SECP256K1.to_vec()),
        Attribute::Verify(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(key_id.to_vec()),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::KeyType(KeyType::EC),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Modifiable(false),
        Attribute::Sign(true),
        Attribute::Derive(false),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(key_id.to_vec()),
    ];
    let (public, _) =
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).map_err(|error| failure(&error))?;
    Ok(public)
}

/// Some modules wrap the point into a DER octet string, some do not.
fn uncompressed(point: &[u8]) -> Option<Vec<u8>> {
    match point {
        [0x04, 0x41, rest @ ..] if rest.len() == 65 && rest[0] == 0x04 => Some(rest.to_vec()),
        [0x04, ..] if point.len() == 65 => Some(point.to_vec()),
        _ => None,
    }
}
