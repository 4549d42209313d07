//! The calls of PKCS#11 that behave differently at a Luna partition, each before or after the same call of SoftHSM.
//!
//! Every function here is called by foreign code through a table of pointers, so the code cannot be free of `unsafe`. It is confined to three things: loading
//! the wrapped module, calling on through its table, and reading or writing what the caller points to. All that is decided is decided in [`super::device`].

use std::{
    collections::BTreeSet,
    ffi::c_void,
    path::{Path, PathBuf},
    slice,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BBOOL, CK_BYTE, CK_FLAGS, CK_FUNCTION_LIST, CK_MECHANISM, CK_NOTIFY, CK_OBJECT_HANDLE, CK_RV,
    CK_SESSION_HANDLE, CK_SLOT_ID, CK_TOKEN_INFO, CK_ULONG, CK_USER_TYPE, CK_UTF8CHAR, CKF_SO_PIN_COUNT_LOW,
    CKF_SO_PIN_FINAL_TRY, CKF_SO_PIN_LOCKED, CKF_USER_PIN_COUNT_LOW, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED,
    CKR_ARGUMENTS_BAD, CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_GENERAL_ERROR, CKR_OK, CKR_PIN_INCORRECT,
    CKR_SLOT_ID_INVALID, CKU_SO, CKU_USER,
};

use crate::device::{
    AUTH_DATA_INCORRECT, CONFIGURATION_VARIABLE, Device, FOLDER_VARIABLE, Hang, KEY_NOT_AUTHORIZED, State, Twist,
    UNABLE_TO_CONNECT, USER_LOCKED_OUT, USER_NOT_AUTHORIZED, WRAPPED_VARIABLE,
};

/// `CKU_CRYPTO_USER` of Luna, for which SoftHSM has no name.
const CRYPTO_USER: CK_USER_TYPE = 0x8000_0001;
/// How often a call that hangs looks whether it still does.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Members that the answer of `CA_GetHAState` has room for.
const MEMBERS_MAX: usize = 32;
/// Bytes of a serial number in it.
const SERIAL_LEN: usize = 20;
/// The order of secp256k1.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae, 0xdc,
    0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// The module of this process. PKCS#11 modules are one to a process.
struct Module {
    /// The table of SoftHSM.
    wrapped: CK_FUNCTION_LIST,
    /// The same, with our functions in some places.
    table: CK_FUNCTION_LIST,
    device: Device,
    /// Where this client's configuration stands.
    configuration: Option<PathBuf>,
    /// The life of the device in which this process opened it.
    life: AtomicU64,
    /// Logged in as one who signs and creates nothing.
    crypto_user: AtomicBool,
    /// Keys that were authorised in this process, with the failovers there had been.
    authorised: Mutex<BTreeSet<(u64, CK_OBJECT_HANDLE)>>,
}

static MODULE: OnceLock<Option<Module>> = OnceLock::new();

/// One member as `CA_GetHAState` tells of it.
#[repr(C)]
struct HaMember {
    serial: [u8; SERIAL_LEN],
    status: CK_RV,
}

/// What `CA_GetHAState` writes.
#[repr(C)]
struct HaState {
    group: [u8; SERIAL_LEN],
    members: [HaMember; MEMBERS_MAX],
    len: CK_ULONG,
}

/// Calls SoftHSM's function of this name; a table without it is a broken module.
macro_rules! wrapped {
    ($module:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $module.wrapped.$function {
            // SAFETY: the pointer stands in the table that the wrapped module gave out for its whole life, and the arguments are those that our own
            // caller passed to the function of the same name, under the same contract.
            Some(function) => unsafe { function($($argument),*) },
            None => CKR_GENERAL_ERROR,
        }
    };
}

/// The module, or the answer that there is none.
macro_rules! module {
    () => {
        match module() {
            Some(module) => module,
            None => return CKR_GENERAL_ERROR,
        }
    };
}

/// What a call that may be refused goes on with.
macro_rules! allowed {
    ($decision:expr) => {
        match $decision {
            Ok(value) => value,
            Err(code) => return code,
        }
    };
}

fn module() -> Option<&'static Module> {
    MODULE.get_or_init(Module::load).as_ref()
}

// === impl Module ===

impl Module {
    /// Reads the environment once, loads SoftHSM and replaces functions in a copy of its table.
    fn load() -> Option<Self> {
        let folder = std::env::var_os(FOLDER_VARIABLE)?;
        let path = std::env::var_os(WRAPPED_VARIABLE)?;
        let device = Device::open(Path::new(&folder)).ok()?;
        // SAFETY: loading runs the initialisers of SoftHSM, the very module that would be loaded without us. It is never unloaded: `forget` below.
        let library = unsafe { libloading::Library::new(path) }.ok()?;
        let mut list = std::ptr::null_mut();
        // SAFETY: a PKCS#11 module exports this function with this signature.
        let given = unsafe {
            let function: libloading::Symbol<'_, unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV> =
                library.get(b"C_GetFunctionList").ok()?;
            function(&raw mut list)
        };
        if given != CKR_OK || list.is_null() {
            return None;
        }
        // SAFETY: the module said that it gave a table, which lives as long as it is loaded. It is copied: the type is plain data.
        let wrapped = unsafe { *list };
        std::mem::forget(library);
        let table = CK_FUNCTION_LIST {
            C_Initialize: Some(initialize),
            C_GetFunctionList: Some(C_GetFunctionList),
            C_GetSlotList: Some(get_slot_list),
            C_GetTokenInfo: Some(get_token_info),
            C_OpenSession: Some(open_session),
            C_Login: Some(login),
            C_FindObjectsInit: Some(find_objects_init),
            C_GenerateKeyPair: Some(generate_key_pair),
            C_SignInit: Some(sign_init),
            C_Sign: Some(sign),
            ..wrapped
        };
        Some(Self {
            wrapped,
            table,
            device,
            configuration: std::env::var_os(CONFIGURATION_VARIABLE).map(PathBuf::from),
            life: AtomicU64::new(0),
            crypto_user: AtomicBool::new(false),
            authorised: Mutex::default(),
        })
    }

    /// The device as it is now, if it answers and is still in the life in which this process opened it.
    fn alive(&self) -> Result<State, CK_RV> {
        let state = self.device.read().map_err(|_| CKR_GENERAL_ERROR)?;
        match state.is_reachable() {
            false => Err(CKR_DEVICE_REMOVED),
            true if state.restarts != self.life.load(Ordering::Relaxed) => Err(CKR_DEVICE_ERROR),
            true => Ok(state),
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, CK_RV> {
        self.device.update(change).map_err(|_| CKR_GENERAL_ERROR)
    }

    /// Does not return while the device says that this call hangs.
    fn hang(&self, call: Hang) -> Result<(), CK_RV> {
        if self.device.read().map_err(|_| CKR_GENERAL_ERROR)?.hang != call {
            return Ok(());
        }
        self.update(|state| state.hanging += 1)?;
        loop {
            let state = self.device.read().map_err(|_| CKR_GENERAL_ERROR)?;
            if state.dies_while_hanging {
                self.update(|state| state.hanging = state.hanging.saturating_sub(1))?;
                std::process::abort();
            }
            if state.hang != call {
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.update(|state| state.hanging = state.hanging.saturating_sub(1))
    }
}

/// Gives out our table.
///
/// # Safety
/// As PKCS#11 says: `list` points to a place for a pointer.
#[unsafe(no_mangle)]
#[allow(non_snake_case)] // the name that the standard gives it
unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    let module = module!();
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: not null, and the caller's to write. The table is static; callers read it only, although the standard's type lets them write.
    unsafe { *list = (&raw const module.table).cast_mut() };
    CKR_OK
}

unsafe extern "C" fn initialize(arguments: *mut c_void) -> CK_RV {
    let module = module!();
    let state = allowed!(module.device.read().map_err(|_| CKR_GENERAL_ERROR));
    module.life.store(state.restarts, Ordering::Relaxed);
    wrapped!(module, C_Initialize(arguments))
}

/// A client that reaches no appliance has no slots.
unsafe extern "C" fn get_slot_list(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    let module = module!();
    let state = allowed!(module.device.read().map_err(|_| CKR_GENERAL_ERROR));
    if state.is_reachable() && state.is_linked(module.configuration.as_deref()) {
        return wrapped!(module, C_GetSlotList(present, slots, count));
    }
    if count.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: not null, and the caller's to write.
    unsafe { *count = 0 };
    CKR_OK
}

/// The token's label and what it tells of wrong PINs.
unsafe extern "C" fn get_token_info(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let module = module!();
    let state = allowed!(module.alive());
    let answer = wrapped!(module, C_GetTokenInfo(slot, info));
    if answer != CKR_OK {
        return answer;
    }
    // SAFETY: the wrapped module has just written to it and said so; nobody else holds it during the call.
    let Some(info) = (unsafe { info.as_mut() }) else { return CKR_ARGUMENTS_BAD };
    if let Some((from, to)) = &state.relabelled
        && info.label == padded(from)
    {
        info.label = padded(to);
    }
    info.flags &= !(CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
    if state.tells_of_the_security_officer {
        info.flags |= CKF_SO_PIN_COUNT_LOW | CKF_SO_PIN_FINAL_TRY | CKF_SO_PIN_LOCKED;
    }
    if state.tells_of_bad_pins {
        for (told, flag) in [
            (state.bad_pins > 0, CKF_USER_PIN_COUNT_LOW),
            (state.bad_pins + 1 == state.bad_pins_max, CKF_USER_PIN_FINAL_TRY),
            (state.is_locked(), CKF_USER_PIN_LOCKED),
        ] {
            if told {
                info.flags |= flag;
            }
        }
    }
    CKR_OK
}

unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    let module = module!();
    allowed!(module.alive());
    wrapped!(module, C_OpenSession(slot, flags, application, notify, session))
}

/// Activation first, then the lock, then the PIN: a login that waits for people is not counted against anybody.
unsafe extern "C" fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    pin_len: CK_ULONG,
) -> CK_RV {
    let module = module!();
    if user == CKU_SO {
        return wrapped!(module, C_Login(session, user, pin, pin_len));
    }
    allowed!(module.alive());
    allowed!(module.update(|state| state.login_calls += 1));
    allowed!(module.hang(Hang::Login));
    let state = allowed!(module.alive());
    if state.login_code != 0 {
        return state.login_code;
    }
    if !state.is_active() {
        return state.inactive_login_code;
    }
    if state.is_locked() {
        return USER_LOCKED_OUT;
    }
    let crypto_user = user == CRYPTO_USER;
    let answer = wrapped!(module, C_Login(session, if crypto_user { CKU_USER } else { user }, pin, pin_len));
    let dies = allowed!(module.update(|state| {
        state.logins += 1;
        state.bad_pins = match answer {
            CKR_OK => 0,
            CKR_PIN_INCORRECT => state.bad_pins + 1,
            _ => state.bad_pins,
        };
        state.dies_in_login
    }));
    if dies {
        std::process::abort();
    }
    if answer == CKR_OK {
        module.crypto_user.store(crypto_user, Ordering::Relaxed);
    }
    answer
}

unsafe extern "C" fn find_objects_init(
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let module = module!();
    allowed!(module.alive());
    wrapped!(module, C_FindObjectsInit(session, template, count))
}

/// A crypto user makes no keys.
unsafe extern "C" fn generate_key_pair(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    public_key: *mut CK_OBJECT_HANDLE,
    private_key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let module = module!();
    let state = allowed!(module.alive());
    if module.crypto_user.load(Ordering::Relaxed) {
        return USER_NOT_AUTHORIZED;
    }
    if !state.is_active() {
        return state.inactive_sign_code;
    }
    allowed!(module.update(|state| state.generated += 1));
    wrapped!(
        module,
        C_GenerateKeyPair(session, mechanism, public, public_count, private, private_count, public_key, private_key)
    )
}

unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    let module = module!();
    let state = allowed!(module.alive());
    if state.sign_code != 0 {
        return state.sign_code;
    }
    if !state.is_active() {
        return state.inactive_sign_code;
    }
    let authorised = module.authorised.lock().unwrap_or_else(PoisonError::into_inner).contains(&(state.failovers, key));
    if !state.key_authorization.is_empty() && !authorised {
        return KEY_NOT_AUTHORIZED;
    }
    wrapped!(module, C_SignInit(session, mechanism, key))
}

unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_len: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    let module = module!();
    if signature.is_null() {
        // Only the length is asked for.
        return wrapped!(module, C_Sign(session, data, data_len, signature, signature_len));
    }
    allowed!(module.hang(Hang::Sign));
    let state = allowed!(module.alive());
    std::thread::sleep(Duration::from_millis(state.sign_delay_ms));
    if data.is_null() || signature_len.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    let Ok(len) = usize::try_from(data_len) else { return CKR_ARGUMENTS_BAD };
    // SAFETY: not null, and the caller says that so many bytes may be read.
    let mut copy = unsafe { slice::from_raw_parts(data, len) }.to_vec();
    if let (Twist::OtherKey, Some(first)) = (state.twist, copy.first_mut()) {
        *first ^= 1;
    }
    let answer = wrapped!(module, C_Sign(session, copy.as_mut_ptr(), data_len, signature, signature_len));
    if answer != CKR_OK {
        return answer;
    }
    // SAFETY: not null, written by the wrapped module.
    let written = unsafe { *signature_len };
    if let Ok(written @ 64) = usize::try_from(written) {
        // SAFETY: the wrapped module has just written so many bytes there; nobody else holds them during the call.
        let bytes = unsafe { slice::from_raw_parts_mut(signature, written) };
        match state.twist {
            Twist::Honest | Twist::OtherKey => {}
            Twist::HighS => raise(&mut bytes[32..]),
            Twist::ZeroR => bytes[..32].fill(0),
            // SAFETY: not null, the caller's to write.
            Twist::Short => unsafe { *signature_len = 63 },
        }
    }
    allowed!(module.update(|state| state.signatures += 1));
    CKR_OK
}

/// Luna's extension: opens one key to this application.
///
/// # Safety
/// `data` points to `data_len` bytes.
#[unsafe(no_mangle)]
#[allow(non_snake_case)] // the name that the vendor gives it
unsafe extern "C" fn CA_AuthorizeKey(
    _session: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
    data: *mut CK_UTF8CHAR,
    data_len: CK_ULONG,
) -> CK_RV {
    let module = module!();
    allowed!(module.hang(Hang::Authorize));
    let state = allowed!(module.alive());
    let Ok(len) = usize::try_from(data_len) else { return CKR_ARGUMENTS_BAD };
    if data.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: not null, and the caller says that so many bytes may be read.
    let given = unsafe { slice::from_raw_parts(data, len) };
    if given != state.key_authorization.as_bytes() {
        allowed!(module.update(|state| state.bad_authorizations += 1));
        return AUTH_DATA_INCORRECT;
    }
    module.authorised.lock().unwrap_or_else(PoisonError::into_inner).insert((state.failovers, key));
    CKR_OK
}

/// Luna's extension: how the members of the HA group behind a slot are.
///
/// # Safety
/// `answer` points to a place for the answer, in the layout of the vendor's present clients.
#[unsafe(no_mangle)]
#[allow(non_snake_case)] // the name that the vendor gives it
unsafe extern "C" fn CA_GetHAState(_slot: CK_SLOT_ID, answer: *mut c_void) -> CK_RV {
    let module = module!();
    let state = allowed!(module.device.read().map_err(|_| CKR_GENERAL_ERROR));
    if state.members.is_empty() {
        return CKR_SLOT_ID_INVALID;
    }
    // SAFETY: the caller's to write during the call, and large enough for the vendor's answer, whose layout this is.
    let Some(answer) = (unsafe { answer.cast::<HaState>().as_mut() }) else { return CKR_ARGUMENTS_BAD };
    answer.group = serial("1000");
    for (place, member) in answer.members.iter_mut().zip(&state.members) {
        place.serial = serial(&member.serial);
        place.status = if member.up { CKR_OK } else { UNABLE_TO_CONNECT };
    }
    answer.len = state.members.len().min(MEMBERS_MAX) as CK_ULONG;
    CKR_OK
}

/// Text in a field of the standard: padded with blanks.
fn padded(text: &str) -> [u8; 32] {
    let mut field = [b' '; 32];
    field.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
    field
}

/// Text in a field of the vendor: ended by a zero.
fn serial(text: &str) -> [u8; SERIAL_LEN] {
    let mut field = [0; SERIAL_LEN];
    field.iter_mut().take(SERIAL_LEN - 1).zip(text.bytes()).for_each(|(place, byte)| *place = byte);
    field
}

/// Makes s the larger of s and its complement.
fn raise(s: &mut [u8]) {
    let mut other = ORDER;
    let mut borrow = false;
    for (place, byte) in other.iter_mut().zip(s.iter()).rev() {
        let (less, first) = place.overflowing_sub(*byte);
        let (less, second) = less.overflowing_sub(u8::from(borrow));
        (*place, borrow) = (less, first || second);
    }
    if other.as_slice() > &*s {
        s.copy_from_slice(&other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_s_is_the_complement_of_the_smaller() {
        let mut s = [0; 32];
        s[31] = 1;
        raise(&mut s);
        let mut largest = ORDER;
        largest[31] -= 1;
        assert_eq!(s, largest);
        raise(&mut s);
        assert_eq!(s, largest, "it stays the larger one");
    }

    #[test]
    fn the_answer_has_the_layout_of_the_vendors_header() {
        assert_eq!(size_of::<HaMember>(), 32);
        assert_eq!(size_of::<HaState>(), 24 + 32 * MEMBERS_MAX + 8);
    }
}
