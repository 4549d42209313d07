//! The appliance as a file: what people did to it, what is broken, and what it has counted.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Names the folder of the device in the environment of the process that loads the module.
pub const FOLDER_VARIABLE: &str = "DALP_QUORUM_FOLDER";
/// Names the module that is wrapped.
pub const WRAPPED_VARIABLE: &str = "DALP_QUORUM_WRAPS";

/// Names the folder of the client's configuration, as for the vendor's own client.
pub const CONFIGURATION_VARIABLE: &str = "ChrystokiConfigurationPath";
/// That configuration.
const CONFIGURATION: &str = "Chrystoki.conf";

/// `PED_UNPLUGGED`: what a login answers by default while too few shares were presented.
pub const PED_UNPLUGGED: u64 = 0x8000_002E;
/// `USER_NOT_AUTHORIZED`: what a signature answers while the partition is not activated.
pub const USER_NOT_AUTHORIZED: u64 = 0x8000_001A;
/// `USER_LOCKED_OUT`.
pub const USER_LOCKED_OUT: u64 = 0x8000_0007;
/// `KEY_NOT_AUTHORIZED`: the key wants its own authorisation first.
pub const KEY_NOT_AUTHORIZED: u64 = 0x8000_0097;
/// `AUTH_DATA_INCORRECT`: the key's authorisation data is wrong, and that was counted.
pub const AUTH_DATA_INCORRECT: u64 = 0x8000_0098;
/// What a member of an HA group that is away has for a status: `UNABLE_TO_CONNECT`.
pub const UNABLE_TO_CONNECT: u64 = 0x8000_001F;

/// Which call does not return.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hang {
    /// None.
    #[default]
    Nothing,
    /// `C_Login`, as while a PED waits for shares.
    Login,
    /// `C_Sign`.
    Sign,
    /// `CA_AuthorizeKey`.
    Authorize,
}

/// What becomes of a signature on its way out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Twist {
    /// Nothing.
    #[default]
    Honest,
    /// It is over something else, so that it belongs to another key.
    OtherKey,
    /// Its s is the larger of the two.
    HighS,
    /// It lacks its last byte.
    Short,
    /// Its r is zero.
    ZeroR,
}

/// A member of an HA group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its serial number.
    pub serial: String,
    /// Whether it answers.
    pub up: bool,
}

/// Everything about the appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// M: shares that activate the partition. Zero: it needs none.
    pub shares_needed: u32,
    /// N: shares there are.
    pub shares: u32,
    /// Shares presented since it was deactivated.
    pub presented: BTreeSet<u32>,
    /// What a login answers while it is not activated.
    pub inactive_login_code: u64,
    /// What a signature answers while it is not activated.
    pub inactive_sign_code: u64,
    /// Wrong PINs in a row that lock it.
    pub bad_pins_max: u32,
    /// Wrong PINs in a row.
    pub bad_pins: u32,
    /// Whether `C_GetTokenInfo` tells of them.
    pub tells_of_bad_pins: bool,
    /// Calls of `C_Login`.
    pub login_calls: u32,
    /// Calls of `C_Login` whose PIN was compared.
    pub logins: u32,
    /// What every login answers instead; 0: nothing.
    pub login_code: u64,
    /// What every signature answers instead; 0: nothing.
    pub sign_code: u64,
    /// How long a signature takes besides, in milliseconds.
    pub sign_delay_ms: u64,
    /// Which call does not return.
    pub hang: Hang,
    /// Calls that do not return now.
    pub hanging: u32,
    /// The process dies once its PIN was compared, before the answer is known to it.
    pub dies_in_login: bool,
    /// The process dies while its call does not return.
    pub dies_while_hanging: bool,
    /// `C_GetTokenInfo` says of the security officer that its PIN was wrong, has one try left, and is locked.
    pub tells_of_the_security_officer: bool,
    /// It is reached over a network link that a client opens with files of its own: without them a client has no slots.
    pub wants_client_files: bool,
    /// The appliance is off, or the network to it.
    pub lost: bool,
    /// How often it was switched on again: what was opened before is void.
    pub restarts: u64,
    /// What becomes of signatures.
    pub twist: Twist,
    /// A label of a token, and the label that it shows instead.
    pub relabelled: Option<(String, String)>,
    /// What every key wants to be authorised with; empty: nothing.
    pub key_authorization: String,
    /// Wrong authorisations of keys.
    pub bad_authorizations: u32,
    /// How often another member of the HA group took over, where no key was authorised yet.
    pub failovers: u64,
    /// Members of the HA group that the slot stands for; empty: it stands for none.
    pub members: Vec<Member>,
    /// Key pairs generated.
    pub generated: u32,
    /// Signatures made.
    pub signatures: u32,
}

/// The appliance. Every process and test that opens the same folder holds the same one.
#[derive(Debug, Clone)]
pub struct Device {
    folder: PathBuf,
}

// === impl State ===

impl Default for State {
    fn default() -> Self {
        Self {
            shares_needed: 0,
            shares: 0,
            presented: BTreeSet::new(),
            inactive_login_code: PED_UNPLUGGED,
            inactive_sign_code: USER_NOT_AUTHORIZED,
            bad_pins_max: 10,
            bad_pins: 0,
            tells_of_bad_pins: true,
            login_calls: 0,
            logins: 0,
            login_code: 0,
            sign_code: 0,
            sign_delay_ms: 0,
            hang: Hang::Nothing,
            hanging: 0,
            dies_in_login: false,
            dies_while_hanging: false,
            tells_of_the_security_officer: false,
            wants_client_files: false,
            lost: false,
            restarts: 0,
            twist: Twist::Honest,
            relabelled: None,
            key_authorization: String::new(),
            bad_authorizations: 0,
            failovers: 0,
            members: Vec::new(),
            generated: 0,
            signatures: 0,
        }
    }
}

impl State {
    /// Whether enough people have presented their shares.
    #[must_use]
    pub fn is_active(&self) -> bool {
        u32::try_from(self.presented.len()).is_ok_and(|presented| presented >= self.shares_needed)
    }

    /// Whether too many wrong PINs were tried.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.bad_pins >= self.bad_pins_max
    }

    /// Whether a client with this folder for its configuration gets a link: the configuration is there and names three files that hold something.
    #[must_use]
    pub fn is_linked(&self, configuration: Option<&Path>) -> bool {
        if !self.wants_client_files {
            return true;
        }
        let text = configuration.and_then(|folder| std::fs::read_to_string(folder.join(CONFIGURATION)).ok());
        let text = text.unwrap_or_default();
        ["ClientCertFile", "ClientPrivKeyFile", "ServerCAFile"].iter().all(|entry| {
            let value =
                text.split([';', '{', '\n']).find_map(|part| part.trim().strip_prefix(entry)?.trim().strip_prefix('='));
            value.is_some_and(|path| std::fs::read(path.trim()).is_ok_and(|content| content.len() > 1))
        })
    }

    /// Whether it answers: it is on, and where it stands for an HA group, a member is.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        !self.lost && (self.members.is_empty() || self.members.iter().any(|member| member.up))
    }
}

// === impl Device ===

impl Device {
    /// The device of a folder, as it was left; a fresh one where there is none.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let device = Self { folder: folder.to_owned() };
        device.update(|_| ())?;
        Ok(device)
    }

    /// As it is now.
    pub fn read(&self) -> io::Result<State> {
        let _lock = self.lock()?;
        self.load()
    }

    /// Changes it; whoever else does waits meanwhile.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let _lock = self.lock()?;
        let mut state = self.load()?;
        let answer = change(&mut state);
        std::fs::write(self.file(), serde_json::to_vec_pretty(&state)?)?;
        Ok(answer)
    }

    /// From now on it wants this many of this many shares, and none is presented.
    pub fn demand_quorum(&self, needed: u32, of: u32) -> io::Result<()> {
        self.update(|state| {
            (state.shares_needed, state.shares) = (needed, of);
            state.presented.clear();
        })
    }

    /// A holder presents share `number`, counted from one. Answers whether it is activated then. A share counts once.
    pub fn present(&self, number: u32) -> io::Result<bool> {
        self.update(|state| {
            if (1..=state.shares).contains(&number) {
                state.presented.insert(number);
            }
            state.is_active()
        })
    }

    /// The security officer deactivates it, or its power failed.
    pub fn deactivate(&self) -> io::Result<()> {
        self.update(|state| state.presented.clear())
    }

    /// It is switched off.
    pub fn lose(&self) -> io::Result<()> {
        self.update(|state| state.lost = true)
    }

    /// It is switched on again: what was opened before is void.
    pub fn bring_back(&self) -> io::Result<()> {
        self.update(|state| {
            state.lost = false;
            state.restarts += 1;
        })
    }

    fn file(&self) -> PathBuf {
        self.folder.join("device.json")
    }

    /// Held until it is dropped.
    fn lock(&self) -> io::Result<File> {
        let file = File::options().create(true).truncate(false).write(true).open(self.folder.join("device.lock"))?;
        file.lock()?;
        Ok(file)
    }

    fn load(&self) -> io::Result<State> {
        match std::fs::read(self.file()) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that cannot go on stops where it stands
mod tests {
    use super::*;

    #[test]
    fn shares_of_different_people_activate_it_and_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::open(folder.path()).unwrap();
        assert!(device.read().unwrap().is_active(), "none is wanted");
        device.demand_quorum(2, 3).unwrap();
        assert!(!device.present(1).unwrap());
        assert!(!device.present(1).unwrap(), "the same one twice is one");
        assert!(!device.present(4).unwrap(), "there is no fourth");
        assert!(Device::open(folder.path()).unwrap().present(3).unwrap(), "another process is at the same device");
        device.deactivate().unwrap();
        assert!(!device.read().unwrap().is_active());
    }

    #[test]
    fn a_client_without_its_files_has_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let open = State::default();
        let state = State { wants_client_files: true, ..State::default() };
        assert!(open.is_linked(None) && !state.is_linked(None) && !state.is_linked(Some(folder.path())));
        let at = |name: &str| folder.path().join(name).display().to_string();
        let text = format!(
            "Chrystoki2 = {{ LibUNIX64 = /lib.so; }}\nLunaSA Client = {{ ClientCertFile = {}; ClientPrivKeyFile = {};\n ServerCAFile = {}; }}\n",
            at("client.pem"),
            at("client.key"),
            at("ca.pem"),
        );
        std::fs::write(folder.path().join(CONFIGURATION), text).unwrap();
        for name in ["client.pem", "client.key", "ca.pem"] {
            assert!(!state.is_linked(Some(folder.path())), "without {name}");
            std::fs::write(at(name), name).unwrap();
        }
        assert!(state.is_linked(Some(folder.path())));
        std::fs::write(at("client.key"), "\n").unwrap();
        assert!(!state.is_linked(Some(folder.path())), "an empty one is none");
    }

    #[test]
    fn it_is_reachable_while_one_member_is() {
        let member = |serial: &str, up| Member { serial: serial.to_owned(), up };
        let group = |one, two| State { members: vec![member("1", one), member("2", two)], ..State::default() };
        assert!(State::default().is_reachable());
        assert!(group(true, true).is_reachable() && group(false, true).is_reachable());
        assert!(!group(false, false).is_reachable());
        assert!(!State { lost: true, ..State::default() }.is_reachable());
    }
}
