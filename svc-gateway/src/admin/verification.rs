//! The WalletVerification service: factors of persons, and which writes of a tenant need one.

use std::sync::Arc;

use dalp_proto::{
    IdempotencyClass, Methods, timestamp,
    verification::{
        self as wire, BeginTotpRequest, BeginTotpResponse, ChangePinRequest, ChangePinResponse,
        ConfirmRecoveryCodesRequest, ConfirmRecoveryCodesResponse, ConfirmTotpRequest, ConfirmTotpResponse,
        EnrolPinRequest, EnrolPinResponse, GenerateRecoveryCodesRequest, GenerateRecoveryCodesResponse,
        GetVerificationOfRequest, GetVerificationOfResponse, GetVerificationPolicyRequest,
        GetVerificationPolicyResponse, GetVerificationRequest, GetVerificationResponse, RemoveFactorRequest,
        RemoveFactorResponse, ResetVerificationRequest, ResetVerificationResponse, SetVerificationPolicyRequest,
        SetVerificationPolicyResponse, wallet_verification_service_server::WalletVerificationService,
    },
};
use dalp_service::{Caller, Reason, Refusal, errors::RefusalResult};
use prost::Message;
use serde_json::json;
use sqlx::PgConnection;
use time::Duration;
use tonic::{Request, Response, Status};

use super::{Desk, Write, invalid_field, nothing, principals};
use crate::{
    access::directory::Change,
    config::PrincipalKind,
    permissions::{Pattern, Universe},
    requests::reason,
    verification::{
        Code, Factor, Verifier,
        header::Presented,
        pin,
        policy::{Mode, verifies_itself},
        recovery,
        store::{self, Enrolled, Person, StoredPolicy},
    },
};

/// The name of an RPC of this service, as requests are kept by.
macro_rules! service {
    ($name:literal) => {
        concat!("dalp.verification.v1.WalletVerificationService/", $name)
    };
}

/// How long a secret that was begun waits for its confirmation.
const BEGUN_HOLDS: Duration = Duration::hours(1);
const MOST_NAMES: usize = 200;

/// Keeps factors and policies.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    desk: Desk,
    verifier: Verifier,
    methods: Arc<Methods>,
}

/// A person's own call: who it is and what was shown with it.
struct Own {
    caller: Caller,
    code: Option<Arc<Code>>,
}

// === impl Factors ===

impl Factors {
    pub(crate) fn new(desk: Desk, verifier: Verifier) -> Self {
        Self { desk, verifier, methods: Arc::new(Methods::load()) }
    }

    /// A person's own write, with the hash of its message under a key: that of a PIN would tell the PIN.
    async fn own_write<T, R>(
        &self,
        method: &'static str,
        request: &Request<T>,
        secret: fn(&mut R),
        work: impl AsyncFnOnce(&mut Write<'_>) -> RefusalResult<R>,
    ) -> RefusalResult<Response<R>>
    where
        T: Message,
        R: Message + Default + Clone,
    {
        let hash = self.verifier.keys()?.hash(&request.get_ref().encode_to_vec());
        self.desk.write_hashed(method, request, hash, secret, work).await
    }

    /// Who has a factor shows one to change anything about them. What was shown is used up in the commit.
    async fn prove(&self, write: &mut Write<'_>, own: &Own) -> RefusalResult<Option<Factor>> {
        let person = own.person();
        let factors = store::enrolled(&mut *write.commit, person).await?.factors();
        if factors.is_empty() {
            return Ok(None);
        }
        let code = self.verifier.required(person, Ok(own.code.as_deref())).await?;
        self.spend(write.commit, person, code, false).await.map(Some)
    }

    async fn spend(
        &self,
        commit: &mut PgConnection,
        person: Person<'_>,
        code: &Code,
        even_locked: bool,
    ) -> RefusalResult<Factor> {
        let proven = self.verifier.attempt(person, code, even_locked).await?;
        match proven.spend(commit, person).await? {
            true => Ok(proven.factor()),
            false => Err(self.verifier.used_before(person, proven.factor()).await),
        }
    }

    async fn now(&self, write: &mut Write<'_>, person: Person<'_>) -> RefusalResult<Option<wire::Verification>> {
        let enrolled = store::enrolled(&mut *write.commit, person).await?;
        Ok(Some(self.told(person, &enrolled)))
    }

    fn told(&self, person: Person<'_>, enrolled: &Enrolled) -> wire::Verification {
        let locked_for_good = enrolled.failures >= self.verifier.lockout().most();
        let until = enrolled.locked_until.filter(|until| !locked_for_good && *until > self.verifier.now());
        wire::Verification {
            principal_id: person.principal.to_owned(),
            factors: enrolled.factors().into_iter().map(|factor| wire::Factor::from(factor).into()).collect(),
            recovery_codes_left: enrolled.codes_left,
            failures: enrolled.failures,
            locked_until: until.map(timestamp),
            locked_for_good,
            totp_unconfirmed: enrolled.totp_unconfirmed,
            recovery_codes_unconfirmed: enrolled.codes_unconfirmed,
        }
    }

    fn policy(&self, asked: Option<wire::VerificationPolicy>, by: &str) -> RefusalResult<StoredPolicy> {
        let asked = asked.ok_or_else(|| invalid_field("policy", "is missing"))?;
        let mode = match asked.mode() {
            wire::PolicyMode::Off => Mode::Off,
            wire::PolicyMode::AllWrites => Mode::AllWrites,
            wire::PolicyMode::Chosen => Mode::Chosen,
            wire::PolicyMode::Unspecified => return Err(invalid_field("policy.mode", "say which writes")),
        };
        let wire::VerificationPolicy { mut methods, mut permissions, .. } = asked;
        for (name, list) in [("policy.methods", &methods), ("policy.permissions", &permissions)] {
            if mode != Mode::Chosen && !list.is_empty() {
                return Err(invalid_field(name, "is given with the mode CHOSEN alone"));
            }
            if list.len() > MOST_NAMES {
                return Err(invalid_field(name, format!("has more than {MOST_NAMES} entries")));
            }
        }
        for (index, method) in methods.iter_mut().enumerate() {
            let path = format!("/{}", method.trim_start_matches('/'));
            let write = self.methods.get(&path).filter(|known| known.idempotency != IdempotencyClass::Read);
            if write.is_none_or(verifies_itself) {
                return Err(invalid_field(
                    &format!("policy.methods[{index}]"),
                    "is no RPC that can need a verification",
                ));
            }
            *method = path[1..].to_owned();
        }
        let universe = Universe::of(&self.methods);
        for (index, permission) in permissions.iter().enumerate() {
            let pattern: Result<Pattern, _> = permission.parse();
            if !pattern.is_ok_and(|pattern| universe.resolve(&pattern).iter().next().is_some()) {
                return Err(invalid_field(&format!("policy.permissions[{index}]"), "is no permission that there is"));
            }
        }
        for list in [&mut methods, &mut permissions] {
            list.sort();
            list.dedup();
        }
        if mode != Mode::Off {
            self.verifier.keys()?;
        }
        Ok(StoredPolicy { mode, methods, permissions, set_at: self.verifier.now(), set_by: by.to_owned() })
    }
}

// === impl Own ===

impl Own {
    fn person(&self) -> Person<'_> {
        Person { tenant: self.caller.tenant.as_str(), principal: self.caller.principal.as_str() }
    }

    /// Of somebody who signed in by browser; nobody else has factors.
    fn of<T>(request: &Request<T>) -> RefusalResult<Self> {
        let caller = Caller::from_metadata(request.metadata())?;
        let presented = request.extensions().get::<Presented>().filter(|presented| presented.signed_in);
        let Some(presented) = presented else {
            let why =
                "only a person who signs in at an identity provider has factors; an API key or a certificate has none";
            return Err(Refusal::new(Reason::FailedPrecondition, why));
        };
        Ok(Self { caller, code: presented.code.clone()? })
    }
}

#[tonic::async_trait]
impl WalletVerificationService for Factors {
    async fn get_verification(
        &self,
        request: Request<GetVerificationRequest>,
    ) -> Result<Response<GetVerificationResponse>, Status> {
        let own = Own::of(&request)?;
        let enrolled = self.verifier.enrolled(own.person()).await?;
        let verification = Some(self.told(own.person(), &enrolled));
        Ok(Response::new(GetVerificationResponse { verification }))
    }

    async fn enrol_pin(&self, request: Request<EnrolPinRequest>) -> Result<Response<EnrolPinResponse>, Status> {
        let own = Own::of(&request)?;
        let chosen = &request.get_ref().pin;
        pin::acceptable(chosen).map_err(|why| invalid_field("pin", why))?;
        let sealed = self.verifier.seal_pin(own.person(), chosen).await?;
        let answer = self.own_write(service!("EnrolPin"), &request, nothing, async |write| {
            let person = own.person();
            let exists = || Refusal::new(Reason::AlreadyExists, "the caller has a PIN: ChangePin replaces it");
            if store::enrolled(&mut *write.commit, person).await?.pin {
                return Err(exists());
            }
            let shown = self.prove(write, &own).await?;
            if !store::put_pin(write.commit, person, &sealed, self.verifier.now(), false).await? {
                return Err(exists());
            }
            enrolled_leaf(write, "verification.enrol", Factor::Pin, shown).await?;
            Ok(EnrolPinResponse { verification: self.now(write, person).await? })
        });
        Ok(answer.await?)
    }

    async fn change_pin(&self, request: Request<ChangePinRequest>) -> Result<Response<ChangePinResponse>, Status> {
        let own = Own::of(&request)?;
        let chosen = &request.get_ref().pin;
        pin::acceptable(chosen).map_err(|why| invalid_field("pin", why))?;
        let sealed = self.verifier.seal_pin(own.person(), chosen).await?;
        let answer = self.own_write(service!("ChangePin"), &request, nothing, async |write| {
            let person = own.person();
            let code = self.verifier.required(person, Ok(own.code.as_deref())).await?;
            match code.factor() {
                Factor::Recovery => {}
                Factor::Pin if store::enrolled(&mut *write.commit, person).await?.pin => {}
                Factor::Pin => return Err(Refusal::new(Reason::NotFound, "the caller has no PIN")),
                Factor::Totp => {
                    return Err(invalid_field("x-wallet-verification", "show the old PIN or a recovery code"));
                }
            }
            let shown = self.spend(write.commit, person, code, true).await?;
            store::put_pin(write.commit, person, &sealed, self.verifier.now(), true).await?;
            enrolled_leaf(write, "verification.change", Factor::Pin, Some(shown)).await?;
            Ok(ChangePinResponse { verification: self.now(write, person).await? })
        });
        Ok(answer.await?)
    }

    async fn begin_totp(&self, request: Request<BeginTotpRequest>) -> Result<Response<BeginTotpResponse>, Status> {
        let own = Own::of(&request)?;
        let secret = |answer: &mut BeginTotpResponse| answer.otpauth_uri.clear();
        let answer = self.own_write(service!("BeginTotp"), &request, secret, async |write| {
            let person = own.person();
            let shown = self.prove(write, &own).await?;
            let (sealed, uri) = self.verifier.seal_totp(person)?;
            store::begin_totp(write.commit, person, &sealed, self.verifier.now()).await?;
            enrolled_leaf(write, "verification.begin", Factor::Totp, shown).await?;
            Ok(BeginTotpResponse { otpauth_uri: uri.to_string() })
        });
        Ok(answer.await?)
    }

    async fn confirm_totp(
        &self,
        request: Request<ConfirmTotpRequest>,
    ) -> Result<Response<ConfirmTotpResponse>, Status> {
        let own = Own::of(&request)?;
        let code = Code::of(Factor::Totp, &request.get_ref().code);
        let code = code.ok_or_else(|| invalid_field("code", "is six digits"))?;
        let answer = self.own_write(service!("ConfirmTotp"), &request, nothing, async |write| {
            let (person, now) = (own.person(), self.verifier.now());
            let waiting = store::totp(&mut *write.commit, person, false).await?;
            let waiting = waiting.filter(|waiting| now - waiting.made_at < BEGUN_HOLDS);
            let waiting =
                waiting.ok_or_else(|| Refusal::new(Reason::NotFound, "no secret waits: BeginTotp makes one"))?;
            let step = self.verifier.secret(person, &waiting.sealed)?.step_of(code.expose(), now);
            let step = step.ok_or_else(|| not_of_it(Factor::Totp))?;
            if !store::confirm_totp(write.commit, person, &waiting.sealed, step).await? {
                return Err(not_of_it(Factor::Totp));
            }
            enrolled_leaf(write, "verification.enrol", Factor::Totp, None).await?;
            Ok(ConfirmTotpResponse { verification: self.now(write, person).await? })
        });
        Ok(answer.await?)
    }

    async fn generate_recovery_codes(
        &self,
        request: Request<GenerateRecoveryCodesRequest>,
    ) -> Result<Response<GenerateRecoveryCodesResponse>, Status> {
        let own = Own::of(&request)?;
        let secret = |answer: &mut GenerateRecoveryCodesResponse| answer.codes.clear();
        let answer = self.own_write(service!("GenerateRecoveryCodes"), &request, secret, async |write| {
            let person = own.person();
            let shown = self.prove(write, &own).await?;
            let codes = recovery::make().map_err(Refusal::internal)?;
            let normal = codes.iter().filter_map(|code| recovery::normal(code));
            let digests: Vec<_> = normal.map(|code| recovery::digest(person, &code)).collect();
            store::put_codes(write.commit, person, &digests, self.verifier.now()).await?;
            enrolled_leaf(write, "verification.begin", Factor::Recovery, shown).await?;
            Ok(GenerateRecoveryCodesResponse { codes: codes.iter().map(|code| code.to_string()).collect() })
        });
        Ok(answer.await?)
    }

    async fn confirm_recovery_codes(
        &self,
        request: Request<ConfirmRecoveryCodesRequest>,
    ) -> Result<Response<ConfirmRecoveryCodesResponse>, Status> {
        let own = Own::of(&request)?;
        let code = Code::of(Factor::Recovery, &request.get_ref().code);
        let code = code.ok_or_else(|| invalid_field("code", "is no recovery code"))?;
        let answer = self.own_write(service!("ConfirmRecoveryCodes"), &request, nothing, async |write| {
            let person = own.person();
            if !store::enrolled(&mut *write.commit, person).await?.codes_unconfirmed {
                let why = "no recovery codes wait: GenerateRecoveryCodes makes them";
                return Err(Refusal::new(Reason::NotFound, why));
            }
            if !store::confirm_codes(write.commit, person, recovery::digest(person, code.expose())).await? {
                return Err(not_of_it(Factor::Recovery));
            }
            enrolled_leaf(write, "verification.enrol", Factor::Recovery, None).await?;
            Ok(ConfirmRecoveryCodesResponse { verification: self.now(write, person).await? })
        });
        Ok(answer.await?)
    }

    async fn remove_factor(
        &self,
        request: Request<RemoveFactorRequest>,
    ) -> Result<Response<RemoveFactorResponse>, Status> {
        let own = Own::of(&request)?;
        let factor = match request.get_ref().factor() {
            wire::Factor::Pin => Factor::Pin,
            wire::Factor::Totp => Factor::Totp,
            wire::Factor::Recovery => Factor::Recovery,
            wire::Factor::Unspecified => return Err(invalid_field("factor", "say which").into()),
        };
        let answer = self.own_write(service!("RemoveFactor"), &request, nothing, async |write| {
            let person = own.person();
            let shown = self.prove(write, &own).await?;
            if !store::remove(write.commit, person, factor).await? {
                return Err(Refusal::new(Reason::NotFound, "the caller has no such factor").meta("factor", factor));
            }
            enrolled_leaf(write, "verification.remove", factor, shown).await?;
            Ok(RemoveFactorResponse { verification: self.now(write, person).await? })
        });
        Ok(answer.await?)
    }

    async fn get_verification_of(
        &self,
        request: Request<GetVerificationOfRequest>,
    ) -> Result<Response<GetVerificationOfResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let id = request.get_ref().principal_id.as_str();
        let found = self.desk.store().principal(caller.tenant.as_str(), id).await.map_err(Refusal::from)?;
        if found.is_none_or(|found| found.kind != PrincipalKind::Person) {
            return Err(absent(id).into());
        }
        let person = Person { tenant: caller.tenant.as_str(), principal: id };
        let enrolled = self.verifier.enrolled(person).await?;
        let verification = Some(self.told(person, &enrolled));
        Ok(Response::new(GetVerificationOfResponse { verification }))
    }

    async fn reset_verification(
        &self,
        request: Request<ResetVerificationRequest>,
    ) -> Result<Response<ResetVerificationResponse>, Status> {
        let ResetVerificationRequest { principal_id, reason: why } = request.get_ref().clone();
        let why = reason(&why)?;
        let answer = self.desk.write(service!("ResetVerification"), &request, nothing, async |write| {
            if principal_id == write.caller.principal.as_str() {
                let why = "nobody resets his own: another administrator does, or a recovery code changes the PIN";
                return Err(Refusal::new(Reason::PermissionDenied, why));
            }
            let (row, tenant) = principals::own(write, &principal_id, false).await?;
            if row.kind != PrincipalKind::Person {
                return Err(absent(&principal_id));
            }
            let person = Person { tenant: &tenant, principal: &principal_id };
            let had = store::enrolled(&mut *write.commit, person).await?;
            for factor in Factor::ALL {
                store::remove(write.commit, person, factor).await?;
            }
            store::right(write.commit, person).await?;
            let factors: Vec<&str> = had.factors().into_iter().map(Factor::as_str).collect();
            let body = json!({"reason": why, "factors": factors, "failures": had.failures});
            write.leaf(&tenant, "verification.reset", &principal_id, body).await?;
            Ok(ResetVerificationResponse { verification: self.now(write, person).await? })
        });
        Ok(answer.await?)
    }

    async fn get_verification_policy(
        &self,
        request: Request<GetVerificationPolicyRequest>,
    ) -> Result<Response<GetVerificationPolicyResponse>, Status> {
        let caller = Caller::from_metadata(request.metadata())?;
        let stored = store::policy(&self.desk.store().pool, caller.tenant.as_str()).await.map_err(Refusal::from)?;
        let off = || wire::VerificationPolicy { mode: wire::PolicyMode::Off.into(), ..Default::default() };
        let policy = Some(stored.map_or_else(off, Into::into));
        Ok(Response::new(GetVerificationPolicyResponse { policy }))
    }

    async fn set_verification_policy(
        &self,
        request: Request<SetVerificationPolicyRequest>,
    ) -> Result<Response<SetVerificationPolicyResponse>, Status> {
        let asked = request.get_ref().policy.clone();
        let answer = self.desk.write(service!("SetVerificationPolicy"), &request, nothing, async |write| {
            let policy = self.policy(asked, &write.by)?;
            let tenant = write.tenant().to_owned();
            store::put_policy(write.commit, &tenant, &policy).await?;
            let StoredPolicy { mode, methods, permissions, .. } = &policy;
            let body = json!({"mode": mode.as_str(), "methods": methods, "permissions": permissions});
            write.leaf(&tenant, "verification.policy", &tenant, body).await?;
            write.changes.push(Change::Tenant(tenant));
            Ok(SetVerificationPolicyResponse { policy: Some(policy.into()) })
        });
        Ok(answer.await?)
    }
}

/// What stands in the audit of a change of factors: which, and what was shown for it; never a code.
async fn enrolled_leaf(
    write: &mut Write<'_>,
    action: &str,
    factor: Factor,
    shown: Option<Factor>,
) -> RefusalResult<()> {
    let (tenant, principal) = (write.tenant().to_owned(), write.caller.principal.to_string());
    let body = json!({"factor": factor.as_str(), "shown": shown.map(Factor::as_str)});
    write.leaf(&tenant, action, &principal, body).await
}

fn not_of_it(factor: Factor) -> Refusal {
    Refusal::new(Reason::WalletVerificationFailed, "the code is none of what waits for its confirmation")
        .meta("factor", factor)
}

fn absent(id: &str) -> Refusal {
    Refusal::new(Reason::NotFound, "the tenant has no such person").meta("principal", id)
}

impl From<Factor> for wire::Factor {
    fn from(factor: Factor) -> Self {
        match factor {
            Factor::Pin => Self::Pin,
            Factor::Totp => Self::Totp,
            Factor::Recovery => Self::Recovery,
        }
    }
}

impl From<StoredPolicy> for wire::VerificationPolicy {
    fn from(stored: StoredPolicy) -> Self {
        let mode = match stored.mode {
            Mode::Off => wire::PolicyMode::Off,
            Mode::AllWrites => wire::PolicyMode::AllWrites,
            Mode::Chosen => wire::PolicyMode::Chosen,
        };
        Self {
            mode: mode.into(),
            methods: stored.methods,
            permissions: stored.permissions,
            set_at: Some(timestamp(stored.set_at)),
            set_by: stored.set_by,
        }
    }
}
