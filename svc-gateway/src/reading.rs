//! Calls whose message the gateway reads before it passes it on, untouched, and only these:
//!
//! - where the right is held on single assets, the message must name one of them;
//! - where the tenant works on some chains only, a message that names a chain must name one of those;
//! - where a wallet verification is asked for, it is good for this message;
//! - for the services that the gateway answers itself, no text may hold a NUL: PostgreSQL stores none.
//!
//! A message without an asset, a stream, or one that does not read gives no right on an asset. A stream of messages is not read for chains.

use std::{collections::BTreeSet, sync::LazyLock};

use bytes::Bytes;
use dalp_proto::Method;
use dalp_service::{Reason, Refusal, errors::RefusalResult};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MapKey, MessageDescriptor, MethodDescriptor, ReflectMessage as _, Value,
};
use sha2::{Digest as _, Sha256};
use tonic::body::Body;

/// The field by which a request names its asset.
const ASSET: &str = "asset";
/// The field by which a request names its chain.
const CHAIN: &str = "chain_id";
/// One byte of flags and four of length stand before each message.
const HEADER_BYTES: usize = 5;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(dalp_proto::FILE_DESCRIPTOR_SET).expect("the descriptor set is compiled into the binary")
});

/// What a call's message is read for.
pub(crate) struct Wanted<'w> {
    /// The assets that the right is held on, in lower case, when it is not held for the whole tenant.
    pub(crate) assets: Option<&'w [String]>,
    /// The chains that the tenant works on; empty: all.
    pub(crate) chain_ids: &'w [u64],
    /// The gateway answers itself.
    pub(crate) own: bool,
    /// What is verified is this message and no other.
    pub(crate) hash: bool,
}

/// What was read.
pub(crate) struct Read {
    /// The request as it came.
    pub(crate) request: Request<Body>,
    /// The asset that gave the right to it, if one had to.
    pub(crate) asset: Option<String>,
    /// What the message says, where that was asked for: the same however it was encoded.
    pub(crate) hash: Option<[u8; 32]>,
}

/// Reads the message of a call as far as is wanted.
pub(crate) async fn read(wanted: Wanted<'_>, method: &Method, request: Request<Body>) -> RefusalResult<Read> {
    let refused = || {
        Refusal::new(
            Reason::PermissionDenied,
            format!("the permission {} is held on other assets only", method.permission),
        )
        .meta("permission", &method.permission)
    };
    let descriptor = descriptor(method).filter(|descriptor| !descriptor.is_client_streaming());
    let names = |field: &str| descriptor.as_ref().is_some_and(|one| one.input().get_field_by_name(field).is_some());
    if wanted.assets.is_some() && !names(ASSET) {
        return Err(refused());
    }
    let for_chain = !wanted.chain_ids.is_empty() && names(CHAIN);
    let Some(descriptor) = descriptor.filter(|_| wanted.assets.is_some() || for_chain || wanted.own || wanted.hash)
    else {
        return Ok(Read { request, asset: None, hash: None });
    };
    let (parts, body) = request.into_parts();
    let unread = |status: tonic::Status| {
        Refusal::from_status(&status)
            .unwrap_or_else(|| Refusal::new(Reason::Cancelled, "the request ended before its end").source(status))
    };
    let bytes = body.collect().await.map_err(unread)?.to_bytes();
    let message = message_of(&descriptor, &bytes);
    // A service takes the first one and drops the others: what is looked at must be what it takes.
    if message.is_none() && (for_chain || wanted.own || wanted.hash) && holds_more_than_one(&bytes) {
        return Err(Refusal::new(Reason::InvalidField, "the call takes one message"));
    }
    let mut asset = None;
    if let Some(assets) = wanted.assets {
        let named = message.as_ref().and_then(asset_of).ok_or_else(refused)?;
        if !assets.contains(&named) {
            return Err(refused().meta("asset", named));
        }
        asset = Some(named);
    }
    // What does not read is refused by whom it is for.
    if let Some(message) = &message {
        if for_chain {
            on_chain_of(wanted.chain_ids, message)?;
        }
        if wanted.own
            && let Some(path) = nul_in(message, "")
        {
            let why = "must not hold the character NUL";
            return Err(Refusal::new(Reason::InvalidField, format!("{path} {why}")).field(path, why));
        }
    }
    let hash = wanted.hash.then(|| hash_of(message.as_ref(), &bytes));
    Ok(Read { request: Request::from_parts(parts, Body::new(Full::new(bytes))), asset, hash })
}

/// What was read, written again: fields in their order, each once. A map has no order, and what does not read is taken as it is.
fn hash_of(message: Option<&DynamicMessage>, bytes: &Bytes) -> [u8; 32] {
    let written = message.filter(|message| !holds_map(&message.descriptor(), &mut BTreeSet::new()));
    match written {
        Some(message) => Sha256::digest(message.encode_to_vec()).into(),
        None => Sha256::digest(bytes).into(),
    }
}

fn holds_map(of: &MessageDescriptor, seen: &mut BTreeSet<String>) -> bool {
    seen.insert(of.full_name().to_owned())
        && of
            .fields()
            .any(|field| field.is_map() || field.kind().as_message().is_some_and(|inner| holds_map(inner, seen)))
}

/// A message that names no chain leaves it to the service; it is not for the gateway to know which one that takes.
fn on_chain_of(chain_ids: &[u64], message: &DynamicMessage) -> RefusalResult<()> {
    match message.get_field_by_name(CHAIN).as_deref() {
        Some(Value::U64(0)) | None => Ok(()),
        Some(Value::U64(chain_id)) if chain_ids.contains(chain_id) => Ok(()),
        Some(Value::U64(chain_id)) => {
            Err(Refusal::new(Reason::ChainNotServed, format!("the tenant does not work on chain {chain_id}"))
                .meta("chain_id", chain_id))
        }
        Some(_) => Ok(()),
    }
}

/// The first field whose text holds a NUL.
fn nul_in(message: &DynamicMessage, above: &str) -> Option<String> {
    message.fields().find_map(|(field, value)| {
        let path = if above.is_empty() { field.name().to_owned() } else { format!("{above}.{}", field.name()) };
        nul_in_value(value, path)
    })
}

fn nul_in_value(value: &Value, path: String) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then_some(path),
        Value::Message(message) => nul_in(message, &path),
        Value::List(values) => {
            values.iter().enumerate().find_map(|(index, value)| nul_in_value(value, format!("{path}[{index}]")))
        }
        Value::Map(values) => values.iter().find_map(|(key, value)| match key {
            MapKey::String(key) if key.contains('\0') => Some(path.clone()),
            _ => nul_in_value(value, path.clone()),
        }),
        _ => None,
    }
}

fn descriptor(method: &Method) -> Option<MethodDescriptor> {
    let name = method.path.rsplit('/').next()?;
    POOL.get_service_by_name(&method.service)?.methods().find(|one| one.name() == name)
}

/// Whether the answer of a call names an operation that it began.
pub(crate) fn answers_with_operation(method: &Method) -> bool {
    descriptor(method).is_some_and(|descriptor| {
        descriptor.output().fields().any(|field| match field.kind() {
            Kind::Message(message) => message.full_name() == "dalp.operation.v1.Operation",
            _ => false,
        })
    })
}

fn holds_more_than_one(body: &Bytes) -> bool {
    body.split_at_checked(HEADER_BYTES).is_some_and(|(header, rest)| {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        rest.len() > length
    })
}

/// The only message of a body, if it reads.
fn message_of(descriptor: &MethodDescriptor, body: &Bytes) -> Option<DynamicMessage> {
    let (header, message) = body.split_at_checked(HEADER_BYTES)?;
    let length = u32::from_be_bytes(header[1..].try_into().ok()?) as usize;
    if header[0] != 0 || message.len() != length {
        return None;
    }
    DynamicMessage::decode(descriptor.input(), message).ok()
}

/// The asset that a message names, in lower case.
fn asset_of(message: &DynamicMessage) -> Option<String> {
    match message.get_field_by_name(ASSET)?.as_ref() {
        Value::String(asset) if !asset.is_empty() => Some(asset.to_ascii_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dalp_proto::{Methods, asset::MintRequest};

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], length.as_slice(), message].concat()
    }

    async fn asked(path: &str, body: Vec<u8>) -> RefusalResult<Bytes> {
        let methods = Methods::load();
        let request = Request::new(Body::new(Full::new(Bytes::from(body))));
        let wanted = Wanted { assets: Some(&["0xaa".to_owned()]), chain_ids: &[], own: false, hash: false };
        let Read { request, asset, .. } = read(wanted, methods.get(path).unwrap(), request).await?;
        assert_eq!(asset.as_deref(), Some("0xaa"));
        Ok(request.into_body().collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn only_a_message_that_names_the_asset_passes_and_passes_untouched() {
        let mint = |asset: &str| MintRequest { asset: asset.to_owned(), ..MintRequest::default() }.encode_to_vec();
        let path = "/dalp.asset.v1.AssetService/Mint";
        let good = framed(&mint("0xAA"));
        assert_eq!(asked(path, good.clone()).await.unwrap(), good);
        // The last of two counts for whoever reads the message behind; so it does here.
        let twice = [mint("0xaa"), mint("0xbb")].concat();
        let compressed = [&[1_u8], &good[1..]].concat();
        let two = [good.clone(), good.clone()].concat();
        for wrong in
            [framed(&mint("0xbb")), framed(&mint("")), framed(&twice), framed(b"\xff"), compressed, two, vec![]]
        {
            let refusal = asked(path, wrong).await.unwrap_err();
            assert_eq!(refusal.reason(), Reason::PermissionDenied);
        }
        let without = asked("/dalp.asset.v1.AssetService/ListAssets", framed(&[])).await.unwrap_err();
        assert_eq!(without.reason(), Reason::PermissionDenied);
        let stream = asked("/dalp.distribution.v1.AirdropService/CreateAirdrop", good).await.unwrap_err();
        assert_eq!(stream.reason(), Reason::PermissionDenied);
    }

    async fn taken(wanted: Wanted<'_>, path: &str, message: impl prost::Message) -> RefusalResult<()> {
        let methods = Methods::load();
        let request = Request::new(Body::new(Full::new(Bytes::from(framed(&message.encode_to_vec())))));
        read(wanted, methods.get(path).unwrap(), request).await.map(drop)
    }

    async fn hashed(path: &str, body: Vec<u8>) -> [u8; 32] {
        let methods = Methods::load();
        let wanted = Wanted { assets: None, chain_ids: &[], own: false, hash: true };
        let request = Request::new(Body::new(Full::new(Bytes::from(body))));
        read(wanted, methods.get(path).unwrap(), request).await.unwrap().hash.unwrap()
    }

    #[tokio::test]
    async fn a_message_has_one_hash_however_it_is_encoded_and_another_one_has_another() {
        let path = "/dalp.asset.v1.AssetService/Mint";
        let asset = MintRequest { asset: "0xaa".to_owned(), ..MintRequest::default() }.encode_to_vec();
        let amount = MintRequest { amount: "5".to_owned(), ..MintRequest::default() }.encode_to_vec();
        let more = MintRequest { amount: "6".to_owned(), ..MintRequest::default() }.encode_to_vec();
        let one = hashed(path, framed(&[asset.clone(), amount.clone()].concat())).await;
        assert_eq!(one, hashed(path, framed(&[amount.clone(), asset.clone()].concat())).await);
        assert_eq!(
            one,
            hashed(path, framed(&[more.clone(), asset.clone(), amount].concat())).await,
            "the last one counts"
        );
        assert_ne!(one, hashed(path, framed(&[asset, more].concat())).await);
        assert_ne!(hashed(path, framed(b"\xff")).await, hashed(path, framed(b"\xfe")).await);
    }

    #[tokio::test]
    async fn a_tenant_names_no_chain_but_its_own() {
        use dalp_proto::operator::ExplainLaneRequest;
        let path = "/dalp.operator.v1.OperatorService/ExplainLane";
        let lane = |chain_id| ExplainLaneRequest { chain_id, ..Default::default() };
        let wanted = |chain_ids| Wanted { assets: None, chain_ids, own: false, hash: false };
        taken(wanted(&[1, 7]), path, lane(7)).await.unwrap();
        taken(wanted(&[]), path, lane(8)).await.unwrap();
        taken(wanted(&[1]), path, lane(0)).await.expect("for the service to refuse");
        let refusal = taken(wanted(&[1, 7]), path, lane(8)).await.unwrap_err();
        assert_eq!(refusal.reason(), Reason::ChainNotServed);
    }

    #[tokio::test]
    async fn no_text_for_our_own_services_holds_a_nul_wherever_it_stands() {
        use dalp_proto::{
            principal::{BindCredentialRequest, Credential, OidcIdentity, credential::Kind},
            tenant::CreateTenantRequest,
        };
        let own = || Wanted { assets: None, chain_ids: &[], own: true, hash: false };
        let roles = CreateTenantRequest {
            administrator_roles: vec!["a".to_owned(), "b\0".to_owned()],
            ..CreateTenantRequest::default()
        };
        let oidc = Kind::Oidc(OidcIdentity { issuer: "i".to_owned(), subject: "\0".to_owned() });
        let bind = BindCredentialRequest {
            principal_id: "p".to_owned(),
            credential: Some(Credential { kind: Some(oidc), managed: false }),
        };
        let path = |name: &str| format!("/dalp.{name}");
        let refused = |refused: RefusalResult<()>| refused.unwrap_err().violations()[0].0.clone();
        let create = path("tenant.v1.TenantService/CreateTenant");
        assert_eq!(refused(taken(own(), &create, roles.clone()).await), "administrator_roles[1]");
        let bound = taken(own(), &path("principal.v1.PrincipalService/BindCredential"), bind).await;
        assert_eq!(refused(bound), "credential.oidc.subject");
        let elsewhere = Wanted { assets: None, chain_ids: &[], own: false, hash: false };
        taken(elsewhere, &create, roles).await.expect("others judge what is theirs");
    }
}
