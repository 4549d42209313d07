//! A stack for people to try, with whoever holds its keys: the signer, SoftHSM, or a stand-in with a console for its people.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::ValueEnum;
use dalp_quorum_module::device::Device;
use dalp_simulators::aws::Aws;
use dalp_simulators::console::{self, Desk};
use dalp_simulators::custodian::{Custodian, Kind, Pace};
use dalp_simulators::hooks::{Manner, Postman};
use dalp_simulators::http::Running;
use tempfile::TempDir;

use crate::commands;
use crate::configuration::TENANT;
use crate::stack::{self, Options, Stack};

/// How the signer works with a simulated custodian. It is told of each decision, so that looking by itself is what is left when an event gets lost.
const PACE: Pace = Pace { call_timeout_ms: 5_000, settle_ms: 1_000, looks_ms: (2_000, 15_000), broadcast: false };
/// Shares that activate the partition, of how many.
const QUORUM: (u32, u32) = (2, 3);
/// Wallets whose keys the printed ceremonies make: one to try, and the one that signs the roots of the tenant's audit log.
const CEREMONIES: [(&str, &str); 2] =
    [("treasury", "make the key of a wallet"), ("audit-root-1", "make the key that signs the roots of the audit log")];

/// Who holds the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Keys {
    /// The signer, encrypted.
    Local,
    /// SoftHSM.
    Pkcs11,
    /// SoftHSM with the manners of a Luna partition that two of three people activate.
    Luna,
    /// A simulated organisation at DFNS.
    Dfns,
    /// A simulated workspace at Fireblocks.
    Fireblocks,
    /// An account of moto, which stands in for AWS KMS.
    Kms,
}

/// What stands beside the stack. Dropped: gone.
enum Holder {
    /// Nothing.
    None,
    Partition {
        device: Arc<Device>,
        console: Running,
        _folder: TempDir,
    },
    Custodian {
        custodian: Arc<Custodian>,
        console: Running,
        _credentials: TempDir,
    },
    Aws {
        _aws: Aws,
        _credentials: TempDir,
    },
}

/// A running stack with whoever holds its keys.
pub struct Trial {
    keys: Keys,
    /// Ended before those whom it asks.
    stack: Stack,
    holder: Holder,
    /// Brings the custodian's events to the gateway.
    postman: Option<Arc<Postman>>,
}

// === impl Keys ===

impl Keys {
    /// The provider, as a signer's configuration has it.
    #[must_use]
    pub const fn provider(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Pkcs11 | Self::Luna => "pkcs11",
            Self::Dfns => Kind::Dfns.name(),
            Self::Fireblocks => Kind::Fireblocks.name(),
            Self::Kms => "kms",
        }
    }
}

// === impl Holder ===

impl Holder {
    /// Starts it, and has the options say how the signer reaches it.
    async fn start(keys: Keys, options: &mut Options) -> anyhow::Result<Self> {
        keys.provider().clone_into(&mut options.provider);
        let folder = || tempfile::Builder::new().prefix("dalp-holder-").tempdir();
        Ok(match keys {
            Keys::Local | Keys::Pkcs11 => Self::None,
            Keys::Luna => {
                let folder = folder()?;
                let device = Device::open(folder.path())?;
                device.demand_quorum(QUORUM.0, QUORUM.1)?;
                device.update(|state| state.wants_client_files = true)?;
                options.luna = Some(folder.path().to_owned());
                let device = Arc::new(device);
                let console = console::start(Arc::clone(&device) as Arc<dyn Desk>).await?;
                Self::Partition { device, console, _folder: folder }
            }
            Keys::Dfns => Self::custodian(Kind::Dfns, folder()?, options).await?,
            Keys::Fireblocks => Self::custodian(Kind::Fireblocks, folder()?, options).await?,
            Keys::Kms => {
                let (aws, folder) = (Aws::start().await?, folder()?);
                options.signer = aws.section(folder.path(), PACE.call_timeout_ms, "")?;
                Self::Aws { _aws: aws, _credentials: folder }
            }
        })
    }

    async fn custodian(kind: Kind, folder: TempDir, options: &mut Options) -> anyhow::Result<Self> {
        let custodian = Arc::new(Custodian::start(kind, None).await?);
        options.signer = custodian.section(folder.path(), &PACE)? + "\n" + &custodian.webhook_section(folder.path())?;
        options.gateway = format!(
            "\n[hooks]\nproviders = [\"{}\"]\nmax_body_bytes = 65536\nrate = {{ per_second = 100, burst = 200 }}\n",
            kind.name()
        );
        let console = console::start(Arc::clone(&custodian) as Arc<dyn Desk>).await?;
        Ok(Self::Custodian { custodian, console, _credentials: folder })
    }

    /// What its people do, and where.
    fn desk(&self) -> Option<(&dyn Desk, &Running)> {
        match self {
            Self::Partition { device, console, .. } => Some((device.as_ref(), console)),
            Self::Custodian { custodian, console, .. } => Some((custodian.as_ref(), console)),
            Self::None | Self::Aws { .. } => None,
        }
    }

    /// Has the custodian tell the gateway what happens.
    fn tell(&self, stack: &Stack) -> anyhow::Result<Option<Arc<Postman>>> {
        let Self::Custodian { custodian, .. } = self else { return Ok(None) };
        let provider = &stack.settings().provider;
        let address = stack.settings().address("svc-gateway");
        let (_, port) = address.rsplit_once(':').unwrap_or(("", &address));
        let url = format!("https://localhost:{port}/hooks/{provider}");
        let postman = Arc::new(Postman::new(&url, Some(&stack.folder().join("pki/ca.pem")), Manner::Once)?);
        custodian.notify(Arc::clone(&postman));
        Ok(Some(postman))
    }
}

// === impl Trial ===

impl Trial {
    /// Starts everything. A stack whose partition waits for people listens by then, and serves once they have come.
    ///
    /// # Errors
    /// When a part is missing or does not start; the error says which and what to do.
    pub async fn start(second_chain: bool, keys: Keys) -> anyhow::Result<Self> {
        let mut options = Options { second_chain, ..Options::default() };
        let holder = Holder::start(keys, &mut options).await?;
        let stack = match keys {
            Keys::Luna => Stack::launch(&options).await?,
            _ => Stack::start(&options).await?,
        };
        let postman = holder.tell(&stack)?;
        Ok(Self { keys, stack, holder, postman })
    }

    /// The stack.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The custodian that holds the keys, if one does.
    #[must_use]
    pub fn custodian(&self) -> Option<&Custodian> {
        match &self.holder {
            Holder::Custodian { custodian, .. } => Some(custodian),
            _ => None,
        }
    }

    /// Who brings the custodian's events to the gateway.
    #[must_use]
    pub fn postman(&self) -> Option<&Postman> {
        self.postman.as_deref()
    }

    /// Where the console of its people is.
    #[must_use]
    pub fn console(&self) -> Option<String> {
        self.holder.desk().map(|(_, console)| console.origin())
    }

    /// The command with which the crypto officer makes a wallet's key.
    ///
    /// # Errors
    /// When the signer's program was not built.
    pub fn ceremony(&self, wallet: &str) -> anyhow::Result<String> {
        let folder = self.stack.folder();
        Ok(format!(
            "{} --config {} key-ceremony --tenant {TENANT} --wallet {wallet} --officer-pin file:{}",
            stack::binary("svc-signer")?.display(),
            folder.join("svc-signer.toml").display(),
            self.stack.settings().secret("pin").display(),
        ))
    }

    /// The command that prints the signer's half of the evidence for a transaction, by its hash or the id of the request for its signature.
    ///
    /// # Errors
    /// When the signer's program was not built.
    pub fn evidence(&self, transaction: &str) -> anyhow::Result<String> {
        let config = self.stack.folder().join("svc-signer.toml");
        let program = stack::binary("svc-signer")?;
        Ok(format!("{} --config {} export-evidence {transaction}", program.display(), config.display()))
    }

    /// What to try, for people.
    ///
    /// # Errors
    /// When a program that is named was not built.
    pub fn text(&self) -> anyhow::Result<String> {
        let mut text = commands::text(&self.stack);
        write!(
            text,
            "\n# the signer's half of the evidence for a transaction\n{}\n",
            self.evidence("TRANSACTION_HASH")?
        )?;
        writeln!(
            text,
            "\n# the operators' status page; its certificate is vouched for by {}\n{}\n# sign in with\n{}",
            self.stack.folder().join("pki/ca.pem").display(),
            self.stack.status_page()?,
            self.stack.settings().api_key,
        )?;
        let (needed, of) = QUORUM;
        match self.keys {
            Keys::Local | Keys::Pkcs11 => {}
            Keys::Kms => writeln!(text, "\nkeys are at moto, which stands in for AWS KMS")?,
            Keys::Dfns | Keys::Fireblocks => {
                let provider = self.keys.provider();
                writeln!(text, "\nkeys are at a simulated {provider}, which tells the gateway of each decision")?;
            }
            Keys::Luna => writeln!(
                text,
                "\nkeys are in a simulated Luna partition; until {needed} of {of} people have presented their shares nothing is made or signed"
            )?,
        }
        if let Some((desk, console)) = self.holder.desk() {
            let origin = console.origin();
            writeln!(text, "their console:")?;
            for action in desk.actions() {
                writeln!(text, "# {}\ncurl -X POST {origin}/{}", action.what, action.name)?;
            }
            writeln!(text, "# how it stands\ncurl {origin}/")?;
        }
        if self.keys == Keys::Luna {
            writeln!(text, "\nthe signer is the partition's crypto user, who makes no keys; its crypto officer does:")?;
            for (wallet, what) in CEREMONIES {
                writeln!(text, "# {what}\n{}", self.ceremony(wallet)?)?;
            }
        }
        write!(text, "\nend it with Ctrl-C or `make down`")?;
        Ok(text)
    }
}
