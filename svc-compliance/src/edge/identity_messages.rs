//! Messages of the identity service to commands.

use crate::domain::{
    ViolationKind, Violations,
    identity::{
        AddTrustedIssuer, ChangeKey, IssueClaim, KeyPurpose, PreviewRecovery, RecoverWallet, RegisterIdentity,
        RegisterTopic, RemoveTrustedIssuer, RevokeClaim,
    },
};
use alloy::primitives::Address;
use dalp_proto::identity as proto;

/// The most bytes of claim data.
const MAX_CLAIM_BYTES: usize = 8192;
/// The most topics of a trusted issuer; the contract's own bound.
const MAX_ISSUER_TOPICS: usize = 15;
/// The most assets that a recovery can name.
const MAX_RECOVERED_ASSETS: usize = 1000;
/// The longest reason of a recovery.
const MAX_REASON_CHARS: usize = 500;
/// The longest ABI signature of a topic.
const MAX_SIGNATURE_CHARS: usize = 500;

impl TryFrom<&proto::RegisterIdentityRequest> for RegisterIdentity {
    type Error = Violations;

    fn try_from(request: &proto::RegisterIdentityRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let command = Self {
            sender: violations.address("sender", &request.sender),
            wallet: violations.address("wallet", &request.wallet),
            country: violations.country(ViolationKind::Field, "country", request.country),
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::AddKeyRequest> for ChangeKey {
    type Error = Violations;

    fn try_from(request: &proto::AddKeyRequest) -> Result<Self, Violations> {
        change_key([&request.sender, &request.wallet, &request.key], request.purpose, true)
    }
}

impl TryFrom<&proto::RemoveKeyRequest> for ChangeKey {
    type Error = Violations;

    fn try_from(request: &proto::RemoveKeyRequest) -> Result<Self, Violations> {
        change_key([&request.sender, &request.wallet, &request.key], request.purpose, false)
    }
}

impl TryFrom<&proto::IssueClaimRequest> for IssueClaim {
    type Error = Violations;

    fn try_from(request: &proto::IssueClaimRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let command = Self {
            issuer: violations.address("issuer", &request.issuer),
            subject: violations.address("subject", &request.subject),
            topic: violations.topic(ViolationKind::Field, "topic", &request.topic),
            data: violations.bytes("data", &request.data, MAX_CLAIM_BYTES),
            expires_at: request.expires_at,
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::RevokeClaimRequest> for RevokeClaim {
    type Error = Violations;

    fn try_from(request: &proto::RevokeClaimRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let command = Self {
            issuer: violations.address("issuer", &request.issuer),
            subject: violations.address("subject", &request.subject),
            topic: violations.topic(ViolationKind::Field, "topic", &request.topic),
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::RegisterTopicRequest> for RegisterTopic {
    type Error = Violations;

    fn try_from(request: &proto::RegisterTopicRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let signature = violations.text("signature", &request.signature, MAX_SIGNATURE_CHARS);
        let tuple = signature.starts_with('(') && signature.ends_with(')');
        if !signature.is_empty() && !tuple {
            violations.push("signature", "must be an ABI tuple such as (uint64 expiresAt)");
        }
        let command = Self {
            sender: violations.address("sender", &request.sender),
            name: violations.topic(ViolationKind::Field, "name", &request.name),
            signature,
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::AddTrustedIssuerRequest> for AddTrustedIssuer {
    type Error = Violations;

    fn try_from(request: &proto::AddTrustedIssuerRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        if !(1..=MAX_ISSUER_TOPICS).contains(&request.topics.len()) {
            violations.push("topics", format!("needs 1 to {MAX_ISSUER_TOPICS} topics"));
        }
        let topics: Vec<_> = request
            .topics
            .iter()
            .take(MAX_ISSUER_TOPICS)
            .enumerate()
            .map(|(index, topic)| violations.topic(ViolationKind::Field, &format!("topics[{index}]"), topic))
            .collect();
        for (index, topic) in topics.iter().enumerate() {
            if topics[..index].contains(topic) {
                violations.push(format!("topics[{index}]"), "is named twice");
            }
        }
        let command = Self {
            sender: violations.address("sender", &request.sender),
            issuer: violations.address("issuer", &request.issuer),
            topics,
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::RemoveTrustedIssuerRequest> for RemoveTrustedIssuer {
    type Error = Violations;

    fn try_from(request: &proto::RemoveTrustedIssuerRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let command = Self {
            sender: violations.address("sender", &request.sender),
            issuer: violations.address("issuer", &request.issuer),
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::RecoverWalletRequest> for RecoverWallet {
    type Error = Violations;

    fn try_from(request: &proto::RecoverWalletRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let (lost_wallet, new_wallet) = recovery_pair(&mut violations, &request.lost_wallet, &request.new_wallet);
        let command = Self {
            sender: violations.address("sender", &request.sender),
            lost_wallet,
            new_wallet,
            assets: recovered_assets(&mut violations, &request.assets),
            reason: violations.text("reason", &request.reason, MAX_REASON_CHARS),
        };
        violations.into_result(command)
    }
}

impl TryFrom<&proto::PreviewRecoveryRequest> for PreviewRecovery {
    type Error = Violations;

    fn try_from(request: &proto::PreviewRecoveryRequest) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let (lost_wallet, new_wallet) = recovery_pair(&mut violations, &request.lost_wallet, &request.new_wallet);
        let preview = Self {
            sender: violations.optional_address("sender", &request.sender),
            lost_wallet,
            new_wallet,
            assets: recovered_assets(&mut violations, &request.assets),
        };
        violations.into_result(preview)
    }
}

fn recovery_pair(violations: &mut Violations, lost: &str, new: &str) -> (Address, Address) {
    let lost_wallet = violations.address("lost_wallet", lost);
    let new_wallet = violations.address("new_wallet", new);
    if lost_wallet == new_wallet && !lost_wallet.is_zero() {
        violations.push("new_wallet", "must be another wallet than the lost one");
    }
    (lost_wallet, new_wallet)
}

fn recovered_assets(violations: &mut Violations, assets: &[String]) -> Vec<Address> {
    if assets.len() > MAX_RECOVERED_ASSETS {
        violations.push("assets", format!("names at most {MAX_RECOVERED_ASSETS} assets"));
    }
    let assets = assets.iter().take(MAX_RECOVERED_ASSETS).enumerate();
    let parsed: Vec<_> = assets.map(|(index, asset)| violations.address(&format!("assets[{index}]"), asset)).collect();
    for (index, asset) in parsed.iter().enumerate() {
        if !asset.is_zero() && parsed[..index].contains(asset) {
            violations.push(format!("assets[{index}]"), "is named twice");
        }
    }
    parsed
}

fn change_key([sender, wallet, key]: [&str; 3], purpose: i32, add: bool) -> Result<ChangeKey, Violations> {
    let mut violations = Violations::new();
    let purpose = match proto::KeyPurpose::try_from(purpose) {
        Ok(proto::KeyPurpose::Management) => KeyPurpose::Management,
        Ok(proto::KeyPurpose::Action) => KeyPurpose::Action,
        Ok(proto::KeyPurpose::Claim) => KeyPurpose::Claim,
        Ok(proto::KeyPurpose::Unspecified) | Err(_) => {
            violations.push(
                "purpose",
                format!(
                    "unknown value {purpose}: one of KEY_PURPOSE_MANAGEMENT, KEY_PURPOSE_ACTION, KEY_PURPOSE_CLAIM"
                ),
            );
            KeyPurpose::Action
        }
    };
    let command = ChangeKey {
        sender: violations.address("sender", sender),
        wallet: violations.address("wallet", wallet),
        key: violations.address("key", key),
        purpose,
        add,
    };
    violations.into_result(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALLET: &str = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045";

    fn fields(violations: &Violations) -> Vec<&str> {
        violations.0.iter().map(|violation| violation.field.as_str()).collect()
    }

    #[test]
    fn countries_are_1_to_999() {
        for country in [0, 1000] {
            let request = proto::RegisterIdentityRequest { sender: WALLET.into(), wallet: WALLET.into(), country };
            assert_eq!(fields(&RegisterIdentity::try_from(&request).unwrap_err()), ["country"]);
        }
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let request = proto::IssueClaimRequest {
            issuer: WALLET.replace("d8dA", "D8dA"),
            subject: String::new(),
            topic: "KYC".into(),
            data: "abc".into(),
            expires_at: 0,
        };
        assert_eq!(fields(&IssueClaim::try_from(&request).unwrap_err()), ["issuer", "subject", "topic", "data"]);
    }

    #[test]
    fn purposes_and_topic_lists_are_checked() {
        for purpose in [0, 4, -1] {
            let request =
                proto::AddKeyRequest { sender: WALLET.into(), wallet: WALLET.into(), key: WALLET.into(), purpose };
            assert_eq!(fields(&ChangeKey::try_from(&request).unwrap_err()), ["purpose"]);
        }
        for (topics, field) in [(vec![], "topics"), (vec!["kyc", "kyc"], "topics[1]"), (vec!["kyc", ""], "topics[1]")] {
            let topics = topics.into_iter().map(str::to_owned).collect();
            let request = proto::AddTrustedIssuerRequest { sender: WALLET.into(), issuer: WALLET.into(), topics };
            assert_eq!(fields(&AddTrustedIssuer::try_from(&request).unwrap_err()), [field]);
        }
        let request =
            proto::RegisterTopicRequest { sender: WALLET.into(), name: "a b".into(), signature: "uint64".into() };
        assert_eq!(fields(&RegisterTopic::try_from(&request).unwrap_err()), ["signature", "name"]);
    }

    #[test]
    fn a_recovery_needs_two_wallets_and_a_reason() {
        let request = proto::RecoverWalletRequest {
            sender: WALLET.into(),
            lost_wallet: WALLET.into(),
            new_wallet: WALLET.into(),
            assets: vec![WALLET.into(), "0x1".into(), WALLET.into()],
            reason: String::new(),
        };
        let violations = RecoverWallet::try_from(&request).unwrap_err();
        assert_eq!(fields(&violations), ["new_wallet", "assets[1]", "assets[2]", "reason"]);
        let preview =
            proto::PreviewRecoveryRequest { lost_wallet: WALLET.into(), new_wallet: "".into(), ..Default::default() };
        assert_eq!(fields(&PreviewRecovery::try_from(&preview).unwrap_err()), ["new_wallet"]);
    }
}
