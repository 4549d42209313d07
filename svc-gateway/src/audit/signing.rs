//! The signer, as the sealer asks it: for the key of a tenant, and for a signature over a root of its log.

use std::{collections::HashMap, sync::Mutex};

use dalp_audit::{
    Root,
    root::{AuditKey, request_id},
};
use dalp_proto::signer::{
    AuditRootStatement, EnsureAuditKeyRequest, SignRequest, SignStatus, sign_request::Payload,
    signer_service_client::SignerServiceClient,
};
use dalp_service::{Reason, Refusal};
use tonic::{Request, Status, transport::Channel};

use super::Log;

/// How long the signer may take to answer.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The signer behind its channel, with the keys that are known.
#[derive(Debug)]
pub struct RootSigner {
    client: SignerServiceClient<Channel>,
    keys: Mutex<HashMap<String, String>>,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Signed.
    Signed {
        /// Address of the key.
        signer: [u8; 20],
        /// r || s || v.
        signature: Vec<u8>,
    },
    /// Not decided; to be asked again.
    Later(String),
    /// Refused for good.
    Refused(String),
}

// === impl RootSigner ===

impl RootSigner {
    /// Asks over this channel.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { client: SignerServiceClient::new(channel), keys: Mutex::default() }
    }

    /// Asks for the signature over a root, with what shows that it continues the last one that `log` knows to be signed. The same root may be
    /// asked about again: the signer answers as before.
    pub async fn sign(&self, log: &Log, root: &Root) -> Answer {
        let signed_size = match log.latest_root(&root.tenant, root.size - 1).await {
            Ok(signed) => signed.map_or(0, |signed| signed.root.size),
            Err(error) => return Answer::Later(format!("the last signed root is not read: {error}")),
        };
        let mut answer = self.asked(log, root, signed_size).await;
        // It has taken another one since: a signature that did not come back, or a database that was restored here or there.
        if let Err(status) = &answer
            && let Some(last_size) = unproven_since(status)
        {
            if last_size > root.size {
                return Answer::Refused(format!("the signer has signed a root of {last_size} leaves of this log"));
            }
            answer = self.asked(log, root, last_size).await;
        }
        match answer {
            Ok(answer) => answer,
            Err(status) => {
                let reason = Refusal::details(&status).map(|details| details.reason).unwrap_or_default();
                let said = format!("{reason}: {}", status.message());
                // The key was replaced, or is none: another one is asked for next time.
                self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&root.tenant);
                let for_good = [Reason::RequestIdReused, Reason::AuditLogRewritten];
                match for_good.iter().any(|one| one.as_str() == reason) {
                    true => Answer::Refused(said),
                    false => Answer::Later(said),
                }
            }
        }
    }

    async fn asked(&self, log: &Log, root: &Root, last_size: u64) -> Result<Answer, Status> {
        let proof = proof_since(log, root, last_size).await?;
        let address = self.key_of(&root.tenant).await?;
        let key: AuditKey = address.parse().map_err(|_| Status::internal("the signer names no address"))?;
        let statement = AuditRootStatement {
            size: root.size,
            root_hash: format!("0x{}", hex::encode(root.root)),
            sealed_at_us: root.sealed_at_us,
            last_size,
            consistency_proof: proof.iter().map(|hash| format!("0x{}", hex::encode(hash))).collect(),
        };
        let request = SignRequest {
            request_id: request_id(key.0, root.size).to_string(),
            tenant: root.tenant.clone(),
            signer: address,
            payload: Some(Payload::AuditRoot(statement)),
            replaces_request_id: String::new(),
        };
        let mut request = Request::new(request);
        request.set_timeout(ANSWER_WITHIN);
        let outcome = self.client.clone().sign(request).await?.into_inner().outcome.unwrap_or_default();
        Ok(match outcome.status() {
            SignStatus::Approved => {
                let signature = hex::decode(outcome.signature.trim_start_matches("0x")).unwrap_or_default();
                match root.signer(&signature) {
                    Some(by) if by == key => Answer::Signed { signer: key.0.into_array(), signature },
                    _ => Answer::Refused("the signer answered with a signature that is not of its key".to_owned()),
                }
            }
            SignStatus::Denied | SignStatus::Expired => {
                let status = outcome.status().as_str_name();
                Answer::Refused(format!("{status}: {} {}", outcome.error, outcome.detail))
            }
            SignStatus::Pending | SignStatus::Blocked | SignStatus::Unspecified => {
                Answer::Later(format!("{}: {} {}", outcome.status().as_str_name(), outcome.error, outcome.detail))
            }
        })
    }

    async fn key_of(&self, tenant: &str) -> Result<String, Status> {
        let known = self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(tenant).cloned();
        if let Some(address) = known {
            return Ok(address);
        }
        let mut request = Request::new(EnsureAuditKeyRequest { tenant: tenant.to_owned() });
        request.set_timeout(ANSWER_WITHIN);
        let key = self.client.clone().ensure_audit_key(request).await?.into_inner().key.unwrap_or_default();
        let mut keys = self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.insert(tenant.to_owned(), key.address.clone());
        Ok(key.address)
    }
}

/// What shows that a root continues the one of `last_size` leaves; nothing where that is none, or itself.
async fn proof_since(log: &Log, root: &Root, last_size: u64) -> Result<Vec<dalp_audit::Hash>, Status> {
    if last_size == 0 || last_size >= root.size {
        return Ok(Vec::new());
    }
    let proven = log.consistency(&root.tenant, last_size, root.size).await;
    let proven = proven.map_err(|error| Status::unavailable(format!("the tree is not read: {error}")))?;
    proven.map(|(_, proof)| proof.hashes).ok_or_else(|| Status::internal("the log is shorter than its root"))
}

/// How many leaves the root covers that a proof is asked from.
fn unproven_since(status: &Status) -> Option<u64> {
    let details = Refusal::details(status).filter(|details| details.reason == Reason::AuditRootUnproven.as_str())?;
    details.metadata.get("last_size")?.parse().ok()
}
