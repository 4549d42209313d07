//! svc-signer behind the [`Signer`] trait.

use super::{
    Intent, ProviderCall, ProviderStage, ProviderWord, SignError, SignOutcome, SignPayload, SignRequest, Signer,
    UnsignedTransaction,
};
use crate::{
    flow::{Failure, Secret, SignDocument, Signature},
    model::{LaneId, RequestId, TenantId},
};
use alloy::{
    consensus::{Transaction as _, TxEnvelope},
    eips::Decodable2718 as _,
    hex,
    primitives::Bytes,
};
use dalp_chain::Fees;
use dalp_proto::signer as wire;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// The signer's reason for a request that the attestor, though it is there, reaches no verdict on. That may be the request's own fault, and never end.
const UNDECIDED: &str = "ATTESTATION_UNDECIDED";
/// The signer's reason for a request while the compliance attestor is away.
const UNJUDGED: &str = "ATTESTOR_UNAVAILABLE";

/// A connection to svc-signer. Cheap to clone; requests share one HTTP/2 connection.
#[derive(Clone, Debug)]
pub struct RemoteSigner {
    client: wire::signer_service_client::SignerServiceClient<Channel>,
}

// === impl RemoteSigner ===

impl RemoteSigner {
    /// Uses a channel that the service has set up with its certificate.
    pub fn new(channel: Channel) -> Self {
        Self { client: wire::signer_service_client::SignerServiceClient::new(channel) }
    }
}

#[async_trait::async_trait]
impl Signer for RemoteSigner {
    async fn sign(&self, request: SignRequest) -> Result<SignOutcome, SignError> {
        let by_provider = matches!(request.payload, SignPayload::ByProvider(_));
        let answer = self.client.clone().sign(to_wire(request)).await.map_err(sign_error)?.into_inner();
        if by_provider { handed(answer.outcome) } else { decided(answer.outcome) }
    }

    async fn status(&self, request_id: RequestId) -> Result<SignOutcome, SignError> {
        let request = wire::StatusRequest { request_id: request_id.to_string() };
        decided(self.client.clone().status(request).await.map_err(sign_error)?.into_inner().outcome)
    }

    async fn release(&self, request_id: RequestId) -> Result<(), SignError> {
        self.client
            .clone()
            .release(wire::ReleaseRequest { request_id: request_id.to_string() })
            .await
            .map_err(sign_error)?;
        Ok(())
    }

    async fn broadcasts(&self, tenant: &TenantId, lane: LaneId) -> Result<bool, SignError> {
        let request = wire::ListIntentsRequest {
            tenant: tenant.to_string(),
            chain_id: lane.chain_id,
            signer: lane.sender.to_checksum(None),
            // Beyond every nonce: only the lane itself is asked for.
            from_nonce: i64::MAX.unsigned_abs(),
        };
        match self.client.clone().list_intents(request).await.map_err(sign_error) {
            Ok(answer) => Ok(answer.into_inner().by_provider),
            Err(SignError::NotFound | SignError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn withdraw(&self, request_id: RequestId) -> Result<SignOutcome, SignError> {
        let request = wire::WithdrawRequest { request_id: request_id.to_string() };
        let outcome = self.client.clone().withdraw(request).await.map_err(sign_error)?.into_inner().outcome;
        match outcome {
            Some(signed) if !signed.signed_transaction.is_empty() => decided(Some(signed)),
            outcome => handed(outcome),
        }
    }

    async fn list_intents(&self, tenant: &TenantId, lane: LaneId, from_nonce: u64) -> Result<Vec<Intent>, SignError> {
        let request = wire::ListIntentsRequest {
            tenant: tenant.to_string(),
            chain_id: lane.chain_id,
            signer: lane.sender.to_checksum(None),
            from_nonce,
        };
        let answer = self.client.clone().list_intents(request).await.map_err(sign_error)?.into_inner();
        answer
            .intents
            .into_iter()
            .map(|intent| {
                let id = intent.outcome.as_ref().map(|outcome| outcome.request_id.clone()).unwrap_or_default();
                let request_id = id.parse().map_err(|_| malformed("request_id of an intent"))?;
                let outcome = outcome(intent.outcome)?;
                let transaction = match &outcome {
                    SignOutcome::SignedTransaction { raw, .. } => Some(unsigned(lane, raw)?),
                    _ => None,
                };
                Ok(Intent { nonce: intent.nonce, request_id, transaction, outcome })
            })
            .collect()
    }
}

fn transaction_to_wire(transaction: &UnsignedTransaction) -> wire::EvmTransaction {
    let mut fields = wire::EvmTransaction {
        chain_id: transaction.chain_id,
        nonce: transaction.nonce,
        target: transaction.target.map(|target| target.to_checksum(None)).unwrap_or_default(),
        value_wei: transaction.value_wei.to_string(),
        data: transaction.data.to_string(),
        gas_limit: transaction.gas_limit,
        ..Default::default()
    };
    match transaction.fees {
        Fees::Eip1559 { max_fee_wei, priority_fee_wei } => {
            fields.max_fee_per_gas_wei = max_fee_wei.to_string();
            fields.max_priority_fee_per_gas_wei = priority_fee_wei.to_string();
        }
        Fees::Legacy { gas_price_wei } => fields.gas_price_wei = gas_price_wei.to_string(),
    }
    fields
}

fn provider_call_to_wire(call: &ProviderCall) -> wire::EvmTransaction {
    wire::EvmTransaction {
        chain_id: call.chain_id,
        target: call.target.map(|target| target.to_checksum(None)).unwrap_or_default(),
        value_wei: call.value_wei.to_string(),
        data: call.data.to_string(),
        by_provider: true,
        ..Default::default()
    }
}

fn reveal(transaction: wire::EvmTransaction, secret: &Secret) -> wire::SettlementReveal {
    wire::SettlementReveal {
        transaction: Some(transaction),
        secret_id: secret.id.to_string(),
        not_after: secret.not_after_s,
    }
}

fn to_wire(request: SignRequest) -> wire::SignRequest {
    use wire::sign_request::Payload;
    let (signer, payload) = match request.payload {
        SignPayload::Transaction(transaction) => {
            (transaction.sender, Payload::EvmTransaction(transaction_to_wire(&transaction)))
        }
        SignPayload::Reveal { transaction, secret } => {
            (transaction.sender, Payload::SettlementReveal(reveal(transaction_to_wire(&transaction), &secret)))
        }
        SignPayload::ByProvider(call) => {
            let transaction = provider_call_to_wire(&call);
            let payload = match &call.secret {
                Some(secret) => Payload::SettlementReveal(reveal(transaction, secret)),
                None => Payload::EvmTransaction(transaction),
            };
            (call.sender, payload)
        }
        SignPayload::Document(SignDocument::Eip712 { signer, document }) => {
            (signer, Payload::Eip712(wire::Eip712Document { document_json: document.to_string() }))
        }
        SignPayload::Document(SignDocument::Claim { signer, identity, topic, data }) => {
            let claim = wire::ClaimAttestation {
                identity: identity.to_checksum(None),
                topic: topic.to_string(),
                data: data.to_string(),
            };
            (signer, Payload::Claim(claim))
        }
    };
    wire::SignRequest {
        request_id: request.request_id.to_string(),
        tenant: request.tenant.to_string(),
        signer: signer.to_checksum(None),
        payload: Some(payload),
        replaces_request_id: request.replaces.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// The outcome of one request. Pending at a provider that cannot be reached is no hold: nobody has to act, and the same request is asked again,
/// as when the signer itself does not answer.
fn decided(answer: Option<wire::SignOutcome>) -> Result<SignOutcome, SignError> {
    if let Some(waiting) = answer.as_ref().filter(|answer| {
        answer.status() == wire::SignStatus::Pending
            && matches!(answer.error.as_str(), "PROVIDER_UNAVAILABLE" | "PROVIDER_FAILED" | UNDECIDED | UNJUDGED)
    }) {
        let said = format!("{} {}: {}", waiting.error, waiting.provider, waiting.detail);
        return Err(if waiting.error == UNJUDGED { SignError::Unjudged(said) } else { SignError::Unavailable(said) });
    }
    outcome(answer)
}

/// The outcome of a call that its provider broadcasts. What the provider has is with it, whether it answers now or not.
fn handed(answer: Option<wire::SignOutcome>) -> Result<SignOutcome, SignError> {
    let answer = answer.ok_or_else(|| malformed("outcome"))?;
    let stage = match answer.status() {
        wire::SignStatus::Unspecified | wire::SignStatus::Pending => match answer.error.as_str() {
            "" => ProviderStage::Held,
            _ if !answer.provider_request_id.is_empty() => ProviderStage::Working,
            _ => return decided(Some(answer)),
        },
        wire::SignStatus::Blocked => ProviderStage::Blocked,
        wire::SignStatus::Approved => {
            let tx_hash = answer.tx_hash.parse().map_err(|_| malformed("tx_hash"))?;
            if answer.stage() == wire::SignStage::Failed {
                ProviderStage::Failed(tx_hash)
            } else {
                ProviderStage::Sent(tx_hash)
            }
        }
        wire::SignStatus::Denied | wire::SignStatus::Expired => return outcome(Some(answer)),
    };
    let detail =
        [answer.error, answer.detail].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    let provider = answer.provider.parse().ok();
    Ok(SignOutcome::ByProvider(ProviderWord { provider, provider_id: answer.provider_request_id, stage, detail }))
}

fn outcome(outcome: Option<wire::SignOutcome>) -> Result<SignOutcome, SignError> {
    let outcome = outcome.ok_or_else(|| malformed("outcome"))?;
    // One that this build does not know is a hold all the same.
    let provider = outcome.provider.parse().ok();
    let refusal = |reason: &str| Failure::new(reason, outcome.detail.clone()).with("provider", &outcome.provider);
    // A status that this build does not know must not make work fail: it waits, and the next build reads it.
    Ok(match wire::SignStatus::try_from(outcome.status).unwrap_or(wire::SignStatus::Unspecified) {
        wire::SignStatus::Unspecified | wire::SignStatus::Pending => {
            SignOutcome::Pending { provider, detail: outcome.detail }
        }
        wire::SignStatus::Blocked => SignOutcome::Blocked { provider, detail: outcome.detail },
        // What the signer itself refused is stored with its reason.
        wire::SignStatus::Denied if !outcome.error.is_empty() => SignOutcome::Denied(refusal(&outcome.error)),
        wire::SignStatus::Denied => SignOutcome::Denied(refusal("APPROVAL_DENIED")),
        // Blocked by the provider's policy, and released by nobody in time.
        wire::SignStatus::Expired if outcome.error == "PROVIDER_BLOCKED" => {
            SignOutcome::Expired(refusal("PROVIDER_BLOCKED"))
        }
        wire::SignStatus::Expired => SignOutcome::Expired(refusal("APPROVAL_EXPIRED")),
        wire::SignStatus::Approved if !outcome.signed_transaction.is_empty() => SignOutcome::SignedTransaction {
            raw: bytes(&outcome.signed_transaction)?,
            tx_hash: outcome.tx_hash.parse().map_err(|_| malformed("tx_hash"))?,
        },
        wire::SignStatus::Approved if !outcome.signature.is_empty() => {
            SignOutcome::Signed(Signature(bytes(&outcome.signature)?))
        }
        // The provider broadcasts by itself and has no bytes for us yet.
        wire::SignStatus::Approved => SignOutcome::Pending { provider, detail: outcome.detail },
    })
}

/// What signed bytes say.
fn unsigned(lane: LaneId, raw: &Bytes) -> Result<UnsignedTransaction, SignError> {
    let envelope = TxEnvelope::decode_2718_exact(raw).map_err(|_| malformed("signed_transaction"))?;
    let fees = match (&envelope, envelope.gas_price()) {
        (TxEnvelope::Eip1559(_), _) => Fees::Eip1559 {
            max_fee_wei: envelope.max_fee_per_gas(),
            priority_fee_wei: envelope.max_priority_fee_per_gas().unwrap_or_default(),
        },
        (TxEnvelope::Legacy(_), Some(gas_price_wei)) => Fees::Legacy { gas_price_wei },
        _ => return Err(malformed("type of a signed transaction")),
    };
    Ok(UnsignedTransaction {
        chain_id: lane.chain_id,
        sender: lane.sender,
        nonce: envelope.nonce(),
        target: envelope.to(),
        value_wei: envelope.value(),
        data: envelope.input().clone(),
        gas_limit: envelope.gas_limit(),
        fees,
    })
}

fn bytes(text: &str) -> Result<Bytes, SignError> {
    hex::decode(text).map(Bytes::from).map_err(|_| malformed("hex"))
}

fn malformed(what: &str) -> SignError {
    SignError::Unavailable(format!("unreadable answer: {what}"))
}

fn sign_error(status: Status) -> SignError {
    let info = status.get_details_error_info();
    let reason = info.as_ref().map(|info| info.reason.as_str()).unwrap_or_default();
    match (status.code(), reason) {
        (_, "WATERMARK_CONFLICT") => SignError::WatermarkConflict {
            next_nonce: info
                .as_ref()
                .and_then(|info| info.metadata.get("next_nonce"))
                .and_then(|nonce| nonce.parse().ok()),
        },
        (Code::NotFound, "" | "NOT_FOUND") => SignError::NotFound,
        (_, UNJUDGED) => SignError::Unjudged(status.message().to_owned()),
        // The server's door, not the signer: an earlier repeat of this request may have passed it.
        (_, "PEER_NOT_ALLOWED") => SignError::Unavailable(format!("PEER_NOT_ALLOWED: {}", status.message())),
        // Only what the signer has decided is final. A missing reason is a proxy's, a crash's or a deadline's answer.
        (
            Code::InvalidArgument
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::AlreadyExists,
            reason,
        ) if !reason.is_empty() => {
            let mut failure = Failure::new(reason, status.message());
            if let Some(info) = &info {
                failure.metadata.extend(info.metadata.clone());
            }
            SignError::Refused(failure)
        }
        _ => SignError::Unavailable(format!("{}: {}", status.code(), status.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::KeyProvider;

    fn pending(error: &str) -> Option<wire::SignOutcome> {
        Some(wire::SignOutcome {
            status: wire::SignStatus::Pending.into(),
            detail: "detail".to_owned(),
            error: error.to_owned(),
            ..Default::default()
        })
    }

    #[test]
    fn what_a_provider_has_is_with_it_whatever_it_says() {
        let told = |status: wire::SignStatus, error: &str, id: &str| wire::SignOutcome {
            status: status.into(),
            error: error.to_owned(),
            provider_request_id: id.to_owned(),
            ..Default::default()
        };
        let stage = |answer: wire::SignOutcome| match handed(Some(answer)) {
            Ok(SignOutcome::ByProvider(word)) => Ok(word.stage),
            other => Err(other),
        };
        use wire::SignStatus::{Approved, Blocked, Denied, Pending};
        assert_eq!(stage(told(Pending, "", "tx-1")), Ok(ProviderStage::Held));
        assert_eq!(stage(told(Pending, "PROVIDER_UNAVAILABLE", "tx-1")), Ok(ProviderStage::Working));
        let lost = stage(told(Pending, "PROVIDER_UNAVAILABLE", ""));
        assert!(matches!(lost, Err(Err(SignError::Unavailable(_)))), "it may never have got there: {lost:?}");
        assert_eq!(stage(told(Blocked, "CHAIN_NOT_SERVED", "")), Ok(ProviderStage::Blocked));
        let hash = alloy::primitives::B256::repeat_byte(7);
        let sent = wire::SignOutcome { tx_hash: hash.to_string(), ..told(Approved, "", "tx-1") };
        assert_eq!(stage(sent.clone()), Ok(ProviderStage::Sent(hash)));
        let failed = wire::SignOutcome { stage: wire::SignStage::Failed.into(), ..sent };
        assert_eq!(stage(failed), Ok(ProviderStage::Failed(hash)), "not a refusal: the chain decides");
        assert!(matches!(stage(told(Approved, "", "tx-1")), Err(Err(SignError::Unavailable(_)))), "without a hash");
        let withdrawn = stage(told(Denied, "WITHDRAWN", "tx-1"));
        assert!(
            matches!(&withdrawn, Err(Ok(SignOutcome::Denied(failure))) if failure.reason == "WITHDRAWN"),
            "{withdrawn:?}"
        );
    }

    #[test]
    fn a_provider_that_is_away_is_no_approval_hold() {
        let waiting = |provider| Ok(SignOutcome::Pending { provider, detail: "detail".to_owned() });
        assert_eq!(decided(pending("")), waiting(None));
        let at = |provider: &str| {
            decided(pending("").map(|outcome| wire::SignOutcome { provider: provider.to_owned(), ..outcome }))
        };
        assert_eq!(at("dfns"), waiting(Some(KeyProvider::Dfns)));
        assert_eq!(at("somebody-new"), waiting(None), "a provider of a later release holds, too");
        for error in ["PROVIDER_UNAVAILABLE", "PROVIDER_FAILED", UNDECIDED] {
            assert!(matches!(decided(pending(error)), Err(SignError::Unavailable(_))), "{error}");
            assert!(outcome(pending(error)).is_ok(), "a lane with such a request can still be listed");
        }
        assert!(matches!(decided(pending(UNJUDGED)), Err(SignError::Unjudged(_))));
        let details = tonic_types::ErrorDetails::with_error_info(UNJUDGED, "dalp", std::collections::HashMap::new());
        let refusal = Status::with_error_details(Code::Unavailable, "gone", details);
        assert_eq!(sign_error(refusal), SignError::Unjudged("gone".to_owned()));
        let details = tonic_types::ErrorDetails::with_error_info(UNDECIDED, "dalp", std::collections::HashMap::new());
        let undecided = sign_error(Status::with_error_details(Code::Unavailable, "no verdict", details));
        assert!(matches!(undecided, SignError::Unavailable(_)), "it counts against the retry budget: {undecided:?}");
        let blocked = wire::SignOutcome { status: wire::SignStatus::Blocked.into(), ..pending("").unwrap_or_default() };
        assert!(matches!(decided(Some(blocked)), Ok(SignOutcome::Blocked { .. })));
    }
}
