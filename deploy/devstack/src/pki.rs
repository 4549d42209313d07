//! A public key infrastructure for development: one root, one leaf per service, a revocation list.
//!
//! Every private key lies readable on disk and the root signs whatever it is asked to. Never use it outside development.
//! This file stands alone (rcgen and time), so that the tests of `dalp-service` include it too.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// The trust domain of development identities: `spiffe://dalp.dev/<name>`.
pub const TRUST_DOMAIN: &str = "dalp.dev";

/// How long development certificates last. A stack is thrown away long before.
const VALIDITY: Duration = Duration::days(30);

/// A root and what it issued, in one folder: `ca.pem`, `crl.pem`, `<name>.pem`, `<name>.key`.
pub struct DevPki {
    dir: PathBuf,
    root: CertifiedIssuer<'static, KeyPair>,
    next_serial: u64,
    /// The serial in force, by name.
    serials: BTreeMap<String, u64>,
    revoked: Vec<u64>,
}

/// The files of one certificate, as a service's configuration names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The root.
    pub trust_anchors: PathBuf,
    /// The revocation list.
    pub crl: PathBuf,
    /// The identity in the certificate.
    pub spiffe_id: String,
    /// The serial number.
    pub serial: u64,
}

impl DevPki {
    /// Makes a root and a leaf for every service in `dir`, and an empty revocation list.
    pub fn create(dir: &Path, services: &[&str]) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut params = CertificateParams::default();
        let key = KeyPair::generate().map_err(io::Error::other)?;
        // A name of its own, so that a certificate of another stack is refused as of an unknown issuer, not as forged.
        let mark: String = params.key_identifier(&key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name = named(&format!("DALP development root {mark}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        validity(&mut params);
        let root = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let mut pki = Self { dir: dir.to_owned(), root, next_serial: 1, serials: BTreeMap::new(), revoked: Vec::new() };
        write(&pki.dir.join("ca.pem"), &pki.root.pem(), false)?;
        pki.publish_crl(OffsetDateTime::now_utc() + VALIDITY)?;
        for service in services {
            pki.issue(service)?;
        }
        Ok(pki)
    }

    /// Issues a certificate for a service or a client (`client/ops`), for both ends of a connection, replacing the files of
    /// an earlier one. The earlier certificate stays valid until revoked.
    pub fn issue(&mut self, name: &str) -> io::Result<LeafFiles> {
        self.issue_until(name, OffsetDateTime::now_utc() + VALIDITY)
    }

    /// As [`DevPki::issue`], already expired: for tests of refusals.
    pub fn issue_expired(&mut self, name: &str) -> io::Result<LeafFiles> {
        self.issue_until(name, OffsetDateTime::now_utc() - Duration::minutes(1))
    }

    /// As [`DevPki::issue`], until then.
    pub fn issue_until(&mut self, name: &str, not_after: OffsetDateTime) -> io::Result<LeafFiles> {
        let serial = self.next_serial;
        self.next_serial += 1;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        validity(&mut params);
        params.not_after = not_after;
        params.serial_number = Some(SerialNumber::from(serial));
        params.subject_alt_names = vec![
            SanType::URI(spiffe_id(name).try_into().map_err(io::Error::other)?),
            SanType::DnsName("localhost".try_into().map_err(io::Error::other)?),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.root).map_err(io::Error::other)?;
        self.serials.insert(name.to_owned(), serial);
        let files = self.files(name);
        // The key first: a service that reloads in between sees a pair that does not match, and waits for the next look.
        write(&files.key, &key.serialize_pem(), true)?;
        write(&files.certificate, &certificate.pem(), false)?;
        Ok(files)
    }

    /// The files of `name`.
    pub fn files(&self, name: &str) -> LeafFiles {
        let file = name.replace('/', "-");
        LeafFiles {
            certificate: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
            trust_anchors: self.dir.join("ca.pem"),
            crl: self.crl(),
            spiffe_id: spiffe_id(name),
            serial: self.serials.get(name).copied().unwrap_or_default(),
        }
    }

    /// The revocation list.
    pub fn crl(&self) -> PathBuf {
        self.dir.join("crl.pem")
    }

    /// Revokes a serial number and writes the list anew; returns its file.
    pub fn revoke(&mut self, serial: u64) -> io::Result<PathBuf> {
        if !self.revoked.contains(&serial) {
            self.revoked.push(serial);
        }
        self.publish_crl(OffsetDateTime::now_utc() + VALIDITY)?;
        Ok(self.crl())
    }

    /// Writes the list anew, with this end.
    pub fn publish_crl(&mut self, next_update: OffsetDateTime) -> io::Result<()> {
        let now = OffsetDateTime::now_utc();
        let number = self.next_serial;
        self.next_serial += 1;
        let params = CertificateRevocationListParams {
            this_update: now - Duration::minutes(5),
            next_update,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: self
                .revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: now - Duration::minutes(1),
                    reason_code: Some(RevocationReason::KeyCompromise),
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.root).map_err(io::Error::other)?;
        write(&self.crl(), &list.pem().map_err(io::Error::other)?, false)
    }
}

/// The development identity of a name.
pub fn spiffe_id(name: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/{name}")
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn validity(params: &mut CertificateParams) {
    let now = OffsetDateTime::now_utc();
    // Clocks of containers on one machine still differ by moments, and drills set one back by an hour.
    params.not_before = now - Duration::days(1);
    params.not_after = now + VALIDITY;
}

/// Writes beside the file and renames, for services reload while we write.
fn write(path: &Path, text: &str, private: bool) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let beside = path.with_extension("new");
    let mode = if private { 0o600 } else { 0o644 };
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&beside, path)
}
