//! A bank whose people sign in by browser, and what they show to verify writes.

use dalp_proto::{
    feeds::{SubmitUpdateRequest, feed_service_client::FeedServiceClient},
    verification::{
        BeginTotpRequest, ChangePinRequest, ConfirmRecoveryCodesRequest, ConfirmTotpRequest, EnrolPinRequest,
        GenerateRecoveryCodesRequest, GetVerificationRequest, PolicyMode, SetVerificationPolicyRequest, Verification,
        VerificationPolicy, wallet_verification_service_client::WalletVerificationServiceClient,
    },
};
use dalp_service::Refusal;
use serde_json::json;
use svc_gateway::verification::totp::Secret;
use time::OffsetDateTime;
use tonic::{Request, Status, transport::Channel};

use super::{
    World,
    issuer::{ISSUER, Issuer, Key, changed},
    world_with,
};

pub const PIN: &str = "918273";
pub const WRONG: &str = "pin 918274";

/// A gateway with a provider of identities, a key to seal with, and a policy for all writes of its tenant.
pub struct Bank {
    pub world: World,
    key: Key,
    _issuer: Issuer,
}

/// Somebody who signed in, at one replica.
pub struct Person {
    pub channel: Channel,
    pub bearer: String,
}

impl Bank {
    pub async fn open(lines: &str) -> Self {
        let key = Key::new("one");
        let issuer = Issuer::start(vec![key.published()]).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.keep().join("sealing-key");
        std::fs::write(&file, "07".repeat(32)).unwrap();
        let people = format!(
            "{}[[principals]]\nid = \"bert\"\ntenant = \"acme\"\nkind = \"person\"\nroles = [\"operator\"]\noidc = {{ issuer = \"{iss}\", subject = \"user-2\" }}\n\
             [[principals]]\nid = \"bot\"\ntenant = \"acme\"\nkind = \"service\"\nroles = [\"operator\"]\noidc = {{ issuer = \"{iss}\", subject = \"robot\" }}\n\
             [verification]\nissuer = \"Acme Bank\"\n{lines}\n[[sealing.keys]]\nid = \"one\"\nkey = \"file:{}\"\n",
            issuer.sections(""),
            file.display(),
            iss = ISSUER,
        );
        let world = world_with("", &people).await;
        let bank = Self { world, key, _issuer: issuer };
        bank.policy(PolicyMode::AllWrites, &[]).await;
        bank
    }

    pub fn person(&self, subject: &str) -> Person {
        self.person_at(subject, self.world.gateway.addr)
    }

    pub fn person_at(&self, subject: &str, addr: std::net::SocketAddr) -> Person {
        let token = self.key.sign(&changed("sub", json!(subject)));
        Person { channel: self.world.pki.channel(addr, None), bearer: format!("Bearer {token}") }
    }

    pub fn anna(&self) -> Person {
        self.person("user-1")
    }

    /// Machines are never asked, so the operator's API key sets the policy.
    pub fn machine(&self) -> Person {
        let channel = self.world.pki.channel(self.world.gateway.addr, None);
        Person { channel, bearer: format!("Bearer {}", self.world.keys.operator.expose()) }
    }

    pub async fn policy(&self, mode: PolicyMode, methods: &[&str]) {
        let methods = methods.iter().map(|&method| method.to_owned()).collect();
        let policy = Some(VerificationPolicy { mode: mode.into(), methods, ..VerificationPolicy::default() });
        let machine = self.machine();
        let request = machine.request(SetVerificationPolicyRequest { policy }, None, None);
        machine.factors().set_verification_policy(request).await.unwrap();
    }

    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.world.database().await).await.unwrap()
    }
}

impl Person {
    pub fn request<T>(&self, message: T, shown: Option<&str>, key: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.bearer.parse().unwrap());
        if let Some(shown) = shown {
            metadata.insert("x-wallet-verification", shown.parse().unwrap());
        }
        if let Some(key) = key {
            metadata.insert("idempotency-key", key.parse().unwrap());
        }
        request
    }

    pub fn factors(&self) -> WalletVerificationServiceClient<Channel> {
        WalletVerificationServiceClient::new(self.channel.clone())
    }

    /// Writes; whether it was answered as a repeat.
    pub async fn writes(&self, feed: &str, shown: Option<&str>, key: Option<&str>) -> Result<bool, Status> {
        let message = SubmitUpdateRequest { feed: feed.to_owned(), ..SubmitUpdateRequest::default() };
        let answer =
            FeedServiceClient::new(self.channel.clone()).submit_update(self.request(message, shown, key)).await?;
        Ok(answer.metadata().get("idempotency-replayed").unwrap() == "true")
    }

    pub async fn status(&self) -> Verification {
        let answer = self.factors().get_verification(self.request(GetVerificationRequest {}, None, None)).await;
        answer.unwrap().into_inner().verification.unwrap()
    }

    pub async fn enrols_pin(&self, pin: &str, shown: Option<&str>) -> Result<Verification, Status> {
        let request = self.request(EnrolPinRequest { pin: pin.to_owned() }, shown, None);
        Ok(self.factors().enrol_pin(request).await?.into_inner().verification.unwrap())
    }

    /// The secret of the app, which is not in use before its first password.
    pub async fn begins_totp(&self, shown: Option<&str>) -> Result<(Secret, String), Status> {
        let answer = self.factors().begin_totp(self.request(BeginTotpRequest {}, shown, None)).await?.into_inner();
        let (_, rest) = answer.otpauth_uri.split_once("secret=").unwrap();
        let text = rest.split('&').next().unwrap().to_owned();
        let bytes = totp_rs::Secret::Encoded(text.clone()).to_bytes().unwrap();
        Ok((Secret::new(&bytes).unwrap(), text))
    }

    pub async fn confirms_totp(&self, code: &str) -> Result<Verification, Status> {
        let request = self.request(ConfirmTotpRequest { code: code.to_owned() }, None, None);
        Ok(self.factors().confirm_totp(request).await?.into_inner().verification.unwrap())
    }

    pub async fn gets_codes(&self, shown: Option<&str>) -> Vec<String> {
        let request = self.request(GenerateRecoveryCodesRequest {}, shown, None);
        self.factors().generate_recovery_codes(request).await.unwrap().into_inner().codes
    }

    pub async fn confirms_codes(&self, code: &str) -> Result<Verification, Status> {
        let request = self.request(ConfirmRecoveryCodesRequest { code: code.to_owned() }, None, None);
        Ok(self.factors().confirm_recovery_codes(request).await?.into_inner().verification.unwrap())
    }

    pub async fn changes_pin(&self, pin: &str, shown: &str) -> Result<Verification, Status> {
        let request = self.request(ChangePinRequest { pin: pin.to_owned() }, Some(shown), None);
        Ok(self.factors().change_pin(request).await?.into_inner().verification.unwrap())
    }
}

pub fn why<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    Refusal::details(&answer.unwrap_err()).unwrap().reason
}

pub fn pin() -> String {
    format!("pin {PIN}")
}

pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
