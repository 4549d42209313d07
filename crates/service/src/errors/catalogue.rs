//! Every reason the platform refuses with: the only place a reason is defined.
//!
//! The order is that of the way of a request: admission, input, operation, domain, signer, platform.

use std::{fmt, str::FromStr, time::Duration};

use tonic::Code;

/// What a caller can do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Change the request, or the state it depends on, and send it again.
    FixInput,
    /// Somebody must decide; then repeat with the same idempotency key.
    WaitForApproval,
    /// Repeat the same request with the same idempotency key.
    RetrySameKey,
    /// Needs an operator.
    CallUs,
}

/// A text that is not a reason of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a reason of this build")]
pub struct UnknownReason;

/// Builds the enum and its tables from one line per reason.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $code:ident, $next:ident, $retry_ms:expr;)+) => {
        /// Why a request was refused. Pages: `docs/errors/<REASON>.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The reason as it stands in `ErrorInfo.reason`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The gRPC status code.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code),+ }
            }

            /// What the caller can do.
            #[must_use]
            pub const fn next(self) -> Next {
                match self { $(Self::$variant => Next::$next),+ }
            }

            /// How long to wait before a repetition is worth it, where one helps.
            #[must_use]
            pub fn retry_after(self) -> Option<Duration> {
                let retry_ms: Option<u64> = match self { $(Self::$variant => $retry_ms),+ };
                retry_ms.map(Duration::from_millis)
            }

            /// One sentence for people.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }

        impl FromStr for Reason {
            type Err = UnknownReason;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text { $($text => Ok(Self::$variant),)+ _ => Err(UnknownReason) }
            }
        }
    };
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

reasons! {
    /// The request carries no credential.
    UnauthenticatedMissing = "UNAUTHENTICATED_MISSING", Unauthenticated, FixInput, None;
    /// The credential is not known.
    UnauthenticatedInvalid = "UNAUTHENTICATED_INVALID", Unauthenticated, FixInput, None;
    /// The API key has passed its expiry time.
    ApiKeyExpired = "API_KEY_EXPIRED", Unauthenticated, FixInput, None;
    /// The API key was disabled.
    ApiKeyDisabled = "API_KEY_DISABLED", Unauthenticated, FixInput, None;
    /// The token of the identity provider has expired.
    TokenExpired = "TOKEN_EXPIRED", Unauthenticated, FixInput, None;
    /// The caller's tenant was disabled.
    TenantDisabled = "TENANT_DISABLED", PermissionDenied, CallUs, None;
    /// The caller's tenant is served by another cell.
    TenantElsewhere = "TENANT_ELSEWHERE", FailedPrecondition, FixInput, None;
    /// The principal lacks the permission this call needs.
    PermissionDenied = "PERMISSION_DENIED", PermissionDenied, FixInput, None;
    /// A read-only API key was used for a write.
    ReadOnlyKey = "READ_ONLY_KEY", PermissionDenied, FixInput, None;
    /// The request names another tenant than the credential belongs to.
    TenantMismatch = "TENANT_MISMATCH", PermissionDenied, FixInput, None;
    /// The call would give away a permission that its caller does not hold.
    GrantExceedsOwn = "GRANT_EXCEEDS_OWN", PermissionDenied, FixInput, None;
    /// The gateway's configuration keeps this; no call changes it.
    ManagedByConfiguration = "MANAGED_BY_CONFIGURATION", FailedPrecondition, FixInput, None;
    /// The calling service may not call this method.
    PeerNotAllowed = "PEER_NOT_ALLOWED", PermissionDenied, CallUs, None;
    /// The caller metadata of the request is not vouched for by the gateway.
    CallerNotTrusted = "CALLER_NOT_TRUSTED", PermissionDenied, CallUs, None;
    /// This call needs a wallet verification.
    WalletVerificationRequired = "WALLET_VERIFICATION_REQUIRED", FailedPrecondition, FixInput, None;
    /// This call needs a wallet verification, and the caller has nothing to verify with.
    WalletVerificationNotEnrolled = "WALLET_VERIFICATION_NOT_ENROLLED", FailedPrecondition, FixInput, None;
    /// What was shown to verify the wallet is not right, or was used before.
    WalletVerificationFailed = "WALLET_VERIFICATION_FAILED", PermissionDenied, FixInput, None;
    /// Too many wrong verifications: nothing is taken for a while.
    WalletVerificationLocked = "WALLET_VERIFICATION_LOCKED", ResourceExhausted, FixInput, None;
    /// The wallet does not belong to the caller.
    WalletNotOwned = "WALLET_NOT_OWNED", PermissionDenied, FixInput, None;
    /// Too many requests of this kind.
    RateLimited = "RATE_LIMITED", ResourceExhausted, RetrySameKey, Some(1000);
    /// One or more fields are not valid.
    InvalidField = "INVALID_FIELD", InvalidArgument, FixInput, None;
    /// The request message is larger than the server accepts.
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted, FixInput, None;
    /// This call requires an idempotency key.
    IdempotencyKeyMissing = "IDEMPOTENCY_KEY_MISSING", InvalidArgument, FixInput, None;
    /// The idempotency key was used before with another payload.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", AlreadyExists, FixInput, None;
    /// There is no such resource, or it is not yours to see.
    NotFound = "NOT_FOUND", NotFound, FixInput, None;
    /// A resource with this identity already exists.
    AlreadyExists = "ALREADY_EXISTS", AlreadyExists, FixInput, None;
    /// The resource is not in a state that allows this.
    FailedPrecondition = "FAILED_PRECONDITION", FailedPrecondition, FixInput, None;
    /// The page token does not belong to this list.
    PageTokenInvalid = "PAGE_TOKEN_INVALID", InvalidArgument, FixInput, None;
    /// This call is part of the contract but not built yet.
    NotImplemented = "NOT_IMPLEMENTED", Unimplemented, CallUs, None;
    /// The operation can no longer be cancelled.
    OperationNotCancellable = "OPERATION_NOT_CANCELLABLE", FailedPrecondition, FixInput, None;
    /// The transaction can no longer be cancelled.
    TransactionNotCancellable = "TRANSACTION_NOT_CANCELLABLE", FailedPrecondition, FixInput, None;
    /// Nothing of the transaction waits for a block.
    TransactionNotBumpable = "TRANSACTION_NOT_BUMPABLE", FailedPrecondition, FixInput, None;
    /// The sender's custody provider broadcasts the transaction by itself: only there it can be made faster or replaced.
    BroadcastByProvider = "BROADCAST_BY_PROVIDER", FailedPrecondition, FixInput, None;
    /// One of its attempts may still be included in a block.
    DeadLetterUndecided = "DEAD_LETTER_UNDECIDED", Aborted, RetrySameKey, Some(30_000);
    /// The operation of the dead letter has ended by itself.
    DeadLetterNotAwaited = "DEAD_LETTER_NOT_AWAITED", FailedPrecondition, FixInput, None;
    /// A second person must release this operation first.
    AwaitingChecker = "AWAITING_CHECKER", FailedPrecondition, WaitForApproval, None;
    /// Who asked for an operation does not approve it.
    MakerIsChecker = "MAKER_IS_CHECKER", PermissionDenied, FixInput, None;
    /// Nobody knows which person stands behind the principal that decides.
    CheckerNotAPerson = "CHECKER_NOT_A_PERSON", PermissionDenied, FixInput, None;
    /// Nobody is known behind the maker, so nobody knows whether the checker is another.
    MakerNotAPerson = "MAKER_NOT_A_PERSON", FailedPrecondition, FixInput, None;
    /// What was decided about is not what is held.
    CheckPayloadDiffers = "CHECK_PAYLOAD_DIFFERS", FailedPrecondition, FixInput, None;
    /// The operation waits for nobody, or this person has decided otherwise.
    CheckDecided = "CHECK_DECIDED", FailedPrecondition, FixInput, None;
    /// The maker may no longer do what the operation does.
    MakerRightLost = "MAKER_RIGHT_LOST", FailedPrecondition, FixInput, None;
    /// The deadline of the request passed before the answer was ready.
    Deadline = "DEADLINE", DeadlineExceeded, RetrySameKey, None;
    /// The request was cancelled before it was answered.
    Cancelled = "CANCELLED", Cancelled, RetrySameKey, None;
    /// The chain would refuse the transaction.
    SimulationReverted = "SIMULATION_REVERTED", FailedPrecondition, FixInput, None;
    /// The sending account cannot pay for the transaction.
    InsufficientFunds = "INSUFFICIENT_FUNDS", FailedPrecondition, FixInput, None;
    /// The tenant's system contracts are not there yet.
    SystemNotBootstrapped = "SYSTEM_NOT_BOOTSTRAPPED", FailedPrecondition, FixInput, None;
    /// The issuer has no on-chain identity.
    IssuerIdentityMissing = "ISSUER_IDENTITY_MISSING", FailedPrecondition, FixInput, None;
    /// The parameters of a compliance module are not valid.
    ModuleParametersInvalid = "MODULE_PARAMETERS_INVALID", InvalidArgument, FixInput, None;
    /// There is no such compliance module.
    ModuleUnknown = "MODULE_UNKNOWN", InvalidArgument, FixInput, None;
    /// Another asset of the tenant has this symbol.
    SymbolTaken = "SYMBOL_TAKEN", AlreadyExists, FixInput, None;
    /// There is no such asset template.
    TemplateUnknown = "TEMPLATE_UNKNOWN", InvalidArgument, FixInput, None;
    /// A compliance rule refuses the movement.
    ComplianceRefused = "COMPLIANCE_REFUSED", FailedPrecondition, FixInput, None;
    /// The recipient has no verified identity for this asset.
    RecipientNotVerified = "RECIPIENT_NOT_VERIFIED", FailedPrecondition, FixInput, None;
    /// An address of the movement is frozen.
    AddressFrozen = "ADDRESS_FROZEN", FailedPrecondition, FixInput, None;
    /// The amount exceeds the sender's free balance.
    UnfrozenBalanceInsufficient = "UNFROZEN_BALANCE_INSUFFICIENT", FailedPrecondition, FixInput, None;
    /// The asset is paused.
    AssetPaused = "ASSET_PAUSED", FailedPrecondition, FixInput, None;
    /// The wallet has an identity already.
    IdentityExists = "IDENTITY_EXISTS", AlreadyExists, FixInput, None;
    /// The wallet has no identity in the tenant's registry.
    IdentityNotFound = "IDENTITY_NOT_FOUND", NotFound, FixInput, None;
    /// The identity holds no such claim of this issuer.
    ClaimNotFound = "CLAIM_NOT_FOUND", NotFound, FixInput, None;
    /// The sender lacks the role on the asset.
    AssetRoleMissing = "ASSET_ROLE_MISSING", PermissionDenied, FixInput, None;
    /// The block is beyond what was indexed so far.
    BlockNotIndexed = "BLOCK_NOT_INDEXED", FailedPrecondition, RetrySameKey, Some(1000);
    /// There is no such claim topic.
    TopicUnknown = "TOPIC_UNKNOWN", InvalidArgument, FixInput, None;
    /// The claim issuer is not trusted for this topic.
    IssuerNotTrusted = "ISSUER_NOT_TRUSTED", FailedPrecondition, FixInput, None;
    /// The claim does not hold.
    ClaimInvalid = "CLAIM_INVALID", FailedPrecondition, FixInput, None;
    /// The signing account lacks the on-chain role for this action.
    RoleMissing = "ROLE_MISSING", PermissionDenied, FixInput, None;
    /// The sale has not started.
    SaleNotStarted = "SALE_NOT_STARTED", FailedPrecondition, FixInput, None;
    /// The sale is over.
    SaleEnded = "SALE_ENDED", FailedPrecondition, FixInput, None;
    /// The sale is not running.
    SaleNotActive = "SALE_NOT_ACTIVE", FailedPrecondition, FixInput, None;
    /// The sale is still running, or its outcome is not decided.
    SaleNotEnded = "SALE_NOT_ENDED", FailedPrecondition, FixInput, None;
    /// The purchase is smaller than the sale allows.
    PurchaseBelowMinimum = "PURCHASE_BELOW_MINIMUM", FailedPrecondition, FixInput, None;
    /// The investor's limit in this sale is exceeded.
    AllocationExceeded = "ALLOCATION_EXCEEDED", FailedPrecondition, FixInput, None;
    /// The sale has fewer tokens left than asked for.
    HardCapExceeded = "HARD_CAP_EXCEEDED", FailedPrecondition, FixInput, None;
    /// The currency is not accepted here.
    CurrencyUnsupported = "CURRENCY_UNSUPPORTED", FailedPrecondition, FixInput, None;
    /// The buyer may not buy this asset.
    BuyerNotEligible = "BUYER_NOT_ELIGIBLE", FailedPrecondition, FixInput, None;
    /// The terms of the sale were not acknowledged.
    TermsNotAcknowledged = "TERMS_NOT_ACKNOWLEDGED", FailedPrecondition, FixInput, None;
    /// The payment buys less than the buyer wanted.
    PriceMoved = "PRICE_MOVED", FailedPrecondition, FixInput, None;
    /// The sale did not reach its soft cap.
    SoftCapNotMet = "SOFT_CAP_NOT_MET", FailedPrecondition, FixInput, None;
    /// The sale gives no refunds now.
    RefundNotOpen = "REFUND_NOT_OPEN", FailedPrecondition, FixInput, None;
    /// The list of recipients is not one that can be paid.
    RecipientListInvalid = "RECIPIENT_LIST_INVALID", InvalidArgument, FixInput, None;
    /// The airdrop's window does not allow this now.
    AirdropNotOpen = "AIRDROP_NOT_OPEN", FailedPrecondition, FixInput, None;
    /// The rows are not on the airdrop's list.
    AirdropProofInvalid = "AIRDROP_PROOF_INVALID", FailedPrecondition, FixInput, None;
    /// This row of the airdrop was paid before.
    AlreadyPaid = "ALREADY_PAID", AlreadyExists, FixInput, None;
    /// The money is not there.
    TreasuryUnderfunded = "TREASURY_UNDERFUNDED", FailedPrecondition, FixInput, None;
    /// The coupon period is not over.
    PeriodNotComplete = "PERIOD_NOT_COMPLETE", FailedPrecondition, FixInput, None;
    /// The holder was paid for this.
    PeriodAlreadyPaid = "PERIOD_ALREADY_PAID", AlreadyExists, FixInput, None;
    /// Nothing is due to this account.
    NothingDue = "NOTHING_DUE", FailedPrecondition, FixInput, None;
    /// The record date has not passed.
    RecordBlockNotFinal = "RECORD_BLOCK_NOT_FINAL", FailedPrecondition, FixInput, None;
    /// The asset lacks a feature this needs.
    FeatureNotAttached = "FEATURE_NOT_ATTACHED", FailedPrecondition, FixInput, None;
    /// The asset has not matured.
    NotMatured = "NOT_MATURED", FailedPrecondition, FixInput, None;
    /// The run is being paid, or paused.
    RunUnderWay = "RUN_UNDER_WAY", FailedPrecondition, FixInput, None;
    /// Money is reserved or was paid for the run.
    RunMoneyMoved = "RUN_MONEY_MOVED", FailedPrecondition, FixInput, None;
    /// The wallet was lost and recovered from.
    WalletRecovered = "WALLET_RECOVERED", FailedPrecondition, FixInput, None;
    /// The new wallet holds no management key of the identity.
    RecoveryKeyMissing = "RECOVERY_KEY_MISSING", FailedPrecondition, FixInput, None;
    /// The asset does not accept the recovery.
    RecoveryRefused = "RECOVERY_REFUSED", FailedPrecondition, FixInput, None;
    /// There is nothing left to recover.
    NothingToRecover = "NOTHING_TO_RECOVER", FailedPrecondition, FixInput, None;
    /// The signed permit or delegation does not hold.
    SignatureInvalid = "SIGNATURE_INVALID", FailedPrecondition, FixInput, None;
    /// The spender may not take so much from the account.
    AllowanceInsufficient = "ALLOWANCE_INSUFFICIENT", FailedPrecondition, FixInput, None;
    /// A contract that was called on the way refused.
    CalledContractFailed = "CALLED_CONTRACT_FAILED", FailedPrecondition, FixInput, None;
    /// The settlement's cutoff has passed.
    CutoffPassed = "CUTOFF_PASSED", FailedPrecondition, FixInput, None;
    /// The settlement's cutoff has not passed.
    CutoffNotReached = "CUTOFF_NOT_REACHED", FailedPrecondition, FixInput, None;
    /// The caller is no party of the settlement for this.
    NotALocalSender = "NOT_A_LOCAL_SENDER", PermissionDenied, FixInput, None;
    /// The party has approved or voted before.
    AlreadyApproved = "ALREADY_APPROVED", AlreadyExists, FixInput, None;
    /// The settlement lacks an approval.
    NotApproved = "NOT_APPROVED", FailedPrecondition, FixInput, None;
    /// The settlement moves only by its secret.
    SecretRequired = "SECRET_REQUIRED", FailedPrecondition, FixInput, None;
    /// The secret is not the one that the settlement is locked with.
    SecretMismatch = "SECRET_MISMATCH", InvalidArgument, FixInput, None;
    /// The settlement can no longer be cancelled.
    CancelNotAllowed = "CANCEL_NOT_ALLOWED", FailedPrecondition, FixInput, None;
    /// Compliance refuses a leg of the settlement.
    LegNotCompliant = "LEG_NOT_COMPLIANT", FailedPrecondition, FixInput, None;
    /// A custodian broke the hold of a leg.
    LegBreached = "LEG_BREACHED", FailedPrecondition, FixInput, None;
    /// Locked amounts cannot be reclaimed yet.
    ReclaimNotOpen = "RECLAIM_NOT_OPEN", FailedPrecondition, FixInput, None;
    /// The smart wallet is not deployed.
    WalletNotDeployed = "WALLET_NOT_DEPLOYED", FailedPrecondition, FixInput, None;
    /// The address does not sign for the smart wallet.
    NotASigner = "NOT_A_SIGNER", PermissionDenied, FixInput, None;
    /// The deadline of the user operation has passed.
    UserOperationExpired = "USER_OPERATION_EXPIRED", FailedPrecondition, FixInput, None;
    /// The user operation was sent, or has ended.
    UserOperationClosed = "USER_OPERATION_CLOSED", FailedPrecondition, FixInput, None;
    /// The update was signed for another topic or schema than the feed's.
    FeedUpdateMismatch = "FEED_UPDATE_MISMATCH", FailedPrecondition, FixInput, None;
    /// The update's signature is not one of a CLAIM key of the issuer.
    FeedSignatureInvalid = "FEED_SIGNATURE_INVALID", FailedPrecondition, FixInput, None;
    /// The update does not carry the issuer's next nonce on this feed.
    FeedNonceInvalid = "FEED_NONCE_INVALID", FailedPrecondition, FixInput, None;
    /// The signed update came after its own deadline.
    FeedDeadlineExpired = "FEED_DEADLINE_EXPIRED", FailedPrecondition, FixInput, None;
    /// The feed takes positive values only.
    FeedValueNotPositive = "FEED_VALUE_NOT_POSITIVE", FailedPrecondition, FixInput, None;
    /// The observation time is zero, older than the latest one, or too far ahead.
    FeedObservationInvalid = "FEED_OBSERVATION_INVALID", FailedPrecondition, FixInput, None;
    /// The feed does not keep this round on chain.
    FeedRoundUnavailable = "FEED_ROUND_UNAVAILABLE", NotFound, FixInput, None;
    /// The topic's schema is not that of a scalar feed.
    FeedSchemaNotScalar = "FEED_SCHEMA_NOT_SCALAR", InvalidArgument, FixInput, None;
    /// There is no such key.
    KeyNotFound = "KEY_NOT_FOUND", NotFound, FixInput, None;
    /// The key is disabled.
    KeyDisabled = "KEY_DISABLED", FailedPrecondition, CallUs, None;
    /// The key is not for payloads of this kind.
    KeyPurposeMismatch = "KEY_PURPOSE_MISMATCH", PermissionDenied, FixInput, None;
    /// Another key of the tenant has this label.
    KeyLabelTaken = "KEY_LABEL_TAKEN", AlreadyExists, FixInput, None;
    /// The calling service holds no grant for this use of the key.
    GrantMissing = "GRANT_MISSING", PermissionDenied, CallUs, None;
    /// The signing policy forbids this payload.
    PolicyDenied = "POLICY_DENIED", PermissionDenied, FixInput, None;
    /// The signing payload is not one the signer understands.
    PayloadInvalid = "PAYLOAD_INVALID", InvalidArgument, FixInput, None;
    /// The payload moves value and no valid compliance attestation covers it.
    AttestationRequired = "ATTESTATION_REQUIRED", FailedPrecondition, CallUs, None;
    /// The compliance attestor refuses the payload.
    AttestationRefused = "ATTESTATION_REFUSED", FailedPrecondition, FixInput, None;
    /// The compliance attestor gave no verdict.
    AttestorUnavailable = "ATTESTOR_UNAVAILABLE", Unavailable, RetrySameKey, Some(2000);
    /// The compliance attestor could not judge this payload.
    AttestationUndecided = "ATTESTATION_UNDECIDED", Unavailable, RetrySameKey, Some(2000);
    /// The nonce was signed before for another payload.
    WatermarkConflict = "WATERMARK_CONFLICT", Aborted, CallUs, None;
    /// The signing request id stands for another payload.
    RequestIdReused = "REQUEST_ID_REUSED", AlreadyExists, CallUs, None;
    /// The audit log is not the one whose root was signed before.
    AuditLogRewritten = "AUDIT_LOG_REWRITTEN", FailedPrecondition, CallUs, None;
    /// Nothing shows that the root continues the last one.
    AuditRootUnproven = "AUDIT_ROOT_UNPROVEN", FailedPrecondition, FixInput, None;
    /// The custody provider holds the request for approval.
    CustodyApprovalPending = "CUSTODY_APPROVAL_PENDING", Aborted, WaitForApproval, Some(5000);
    /// The approval was refused.
    ApprovalDenied = "APPROVAL_DENIED", FailedPrecondition, FixInput, None;
    /// Nobody decided in time.
    ApprovalExpired = "APPROVAL_EXPIRED", FailedPrecondition, FixInput, None;
    /// The key's provider broadcasts by itself, and the request would have us broadcast, or the other way round.
    BroadcastModeMismatch = "BROADCAST_MODE_MISMATCH", FailedPrecondition, CallUs, None;
    /// The key belongs to a provider that is not the active one.
    ProviderNotActive = "PROVIDER_NOT_ACTIVE", FailedPrecondition, CallUs, None;
    /// The key provider is blocked.
    ProviderBlocked = "PROVIDER_BLOCKED", FailedPrecondition, CallUs, None;
    /// The HSM's partition refused the PIN, which is not tried a second time.
    PartitionPinRefused = "PARTITION_PIN_REFUSED", FailedPrecondition, CallUs, None;
    /// The HSM's partition is locked, disabled, or barred from this use.
    PartitionLocked = "PARTITION_LOCKED", FailedPrecondition, CallUs, None;
    /// No partition has the configured label.
    PartitionNotFound = "PARTITION_NOT_FOUND", FailedPrecondition, CallUs, None;
    /// Several partitions have the configured label.
    PartitionAmbiguous = "PARTITION_AMBIGUOUS", FailedPrecondition, CallUs, None;
    /// The partition does not hold the key, and this signer may not make one there.
    KeyNotInPartition = "KEY_NOT_IN_PARTITION", FailedPrecondition, CallUs, None;
    /// The key refused its own authorisation, which is not tried a second time.
    KeyAuthorizationRefused = "KEY_AUTHORIZATION_REFUSED", FailedPrecondition, CallUs, None;
    /// The key provider cannot be reached.
    ProviderUnavailable = "PROVIDER_UNAVAILABLE", Unavailable, RetrySameKey, Some(2000);
    /// The key provider refuses the signer's credentials.
    ProviderUnauthorized = "PROVIDER_UNAUTHORIZED", FailedPrecondition, CallUs, None;
    /// What was sent as an event of a key provider is not signed as that provider signs.
    ProviderEventUnverified = "PROVIDER_EVENT_UNVERIFIED", Unauthenticated, FixInput, None;
    /// The key provider's event is too old, or from the future.
    ProviderEventStale = "PROVIDER_EVENT_STALE", FailedPrecondition, FixInput, None;
    /// The key is disabled at its provider, or about to be deleted there.
    ProviderKeyDisabled = "PROVIDER_KEY_DISABLED", FailedPrecondition, CallUs, None;
    /// The key provider does not hold the key, and this signer may not make one there.
    ProviderKeyNotFound = "PROVIDER_KEY_NOT_FOUND", FailedPrecondition, CallUs, None;
    /// The clocks of the signer and the key provider differ.
    ProviderClockSkewed = "PROVIDER_CLOCK_SKEWED", FailedPrecondition, CallUs, None;
    /// The key provider does not serve the chain.
    ChainNotServed = "CHAIN_NOT_SERVED", FailedPrecondition, CallUs, None;
    /// The key provider answered with an error.
    ProviderFailed = "PROVIDER_FAILED", Unavailable, RetrySameKey, Some(5000);
    /// A service or node this call depends on cannot be reached.
    UpstreamUnavailable = "UPSTREAM_UNAVAILABLE", Unavailable, RetrySameKey, Some(1000);
    /// No healthy chain node is reachable.
    ChainUnavailable = "CHAIN_UNAVAILABLE", Unavailable, RetrySameKey, Some(2000);
    /// The database cannot be reached.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE", Unavailable, RetrySameKey, Some(1000);
    /// A concurrent change came in between.
    Conflict = "CONFLICT", Aborted, RetrySameKey, Some(200);
    /// The service is at its limit of work.
    Overloaded = "OVERLOADED", ResourceExhausted, RetrySameKey, Some(1000);
    /// The idempotency key stands for an operation whose month of history has been archived.
    OperationArchived = "OPERATION_ARCHIVED", FailedPrecondition, FixInput, None;
    /// The tenant has as much unfinished work as it may.
    TenantQuotaExceeded = "TENANT_QUOTA_EXCEEDED", ResourceExhausted, RetrySameKey, Some(5_000);
    /// This replica is stopping.
    Stopping = "STOPPING", Unavailable, RetrySameKey, Some(1000);
    /// Something failed that should not.
    Internal = "INTERNAL", Internal, CallUs, None;
}
