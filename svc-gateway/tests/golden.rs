//! Every RPC of the contracts is called without right, in each way there is: none gets through, each hears why, and the golden file
//! says so of each. An RPC that is not declared there fails the test.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::{Buf, BufMut};
use dalp_proto::{Exposure, IdempotencyClass, Methods};
use dalp_service::Refusal;
use http::uri::PathAndQuery;
use support::{World, world, world_with};
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

/// Ways to call without right, in the order of the golden file's columns.
const WAYS: [&str; 8] =
    ["none", "unknown", "expired-key", "disabled-key", "certificate-of-nobody", "other-tenant", "no-role", "read-only"];

/// Who is refused hears of it long before.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

/// Why somebody is not let in.
const ADMISSION: [&str; 7] = [
    "UNAUTHENTICATED_MISSING",
    "UNAUTHENTICATED_INVALID",
    "API_KEY_EXPIRED",
    "API_KEY_DISABLED",
    "TENANT_MISMATCH",
    "PERMISSION_DENIED",
    "READ_ONLY_KEY",
];

/// Messages as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let bytes = source.copy_to_bytes(source.remaining());
        Ok(Some(bytes.to_vec()))
    }
}

/// What a call with an empty message hears: its code and reason, or `OK`.
async fn call(channel: &Channel, path: &str, key: Option<&str>, tenant: Option<&str>) -> Result<(), Status> {
    let mut request = Request::new(futures::stream::iter([Vec::new()]));
    let metadata = request.metadata_mut();
    if let Some(key) = key {
        metadata.insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    if let Some(tenant) = tenant {
        metadata.insert("dalp-tenant", tenant.parse().unwrap());
    }
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let answer = grpc.streaming(request, path.parse::<PathAndQuery>().unwrap(), Raw).await?;
    // The status may come only at the end. Who is let in to watch hears nothing as long as nothing happens.
    let mut messages = answer.into_inner();
    let end = async {
        while messages.message().await?.is_some() {}
        Ok(())
    };
    tokio::time::timeout(REFUSED_WITHIN, end).await.unwrap_or(Ok(()))
}

fn heard(answer: Result<(), Status>) -> String {
    match answer {
        Ok(()) => "OK".to_owned(),
        Err(status) => {
            Refusal::details(&status).map_or_else(|| format!("{:?}", status.code()), |details| details.reason)
        }
    }
}

async fn ways(world: &World, path: &str, channel: &Channel, nobodys: &Channel, no_role: &str) -> Vec<String> {
    let keys = &world.keys;
    let unknown = svc_gateway::api_key::ApiKey::generate().unwrap();
    vec![
        heard(call(channel, path, None, None).await),
        heard(call(channel, path, Some(unknown.expose()), None).await),
        heard(call(channel, path, Some(keys.expired.expose()), None).await),
        heard(call(channel, path, Some(keys.disabled.expose()), None).await),
        heard(call(nobodys, path, None, None).await),
        heard(call(channel, path, Some(keys.operator.expose()), Some("other")).await),
        heard(call(channel, path, Some(no_role), None).await),
        passes(heard(call(channel, path, Some(keys.reader.expose()), None).await), path),
    ]
}

/// A read is open to a key that may only read: what it hears then is not the gateway's word.
fn passes(heard: String, path: &str) -> String {
    let mesh = Methods::load().get(path).unwrap().exposure == Exposure::Mesh;
    match mesh || ADMISSION.contains(&heard.as_str()) {
        true => heard,
        false => "passes".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rpc_lets_anybody_in_without_right_and_each_says_why() {
    let none = svc_gateway::api_key::ApiKey::generate().unwrap();
    let sections = format!(
        "[[principals]]\nid = \"none\"\ntenant = \"acme\"\nroles = []\nprefix = \"{}\"\napi_key_sha256 = \"{}\"\n",
        none.prefix(),
        none.digest()
    );
    let world = world_with("", &sections).await;
    let channel = world.pki.channel(world.gateway.addr, None);
    let nobodys = world.pki.channel(world.gateway.addr, Some("clients/nobody"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests/golden/gateway_refusals.txt");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let mut declared = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        declared.insert(words.next().unwrap().to_owned(), words.map(str::to_owned).collect::<Vec<_>>());
    }
    let mut heard = BTreeMap::new();
    for method in Methods::load().iter() {
        heard.insert(method.path.clone(), ways(&world, &method.path, &channel, &nobodys, none.expose()).await);
    }
    let wrong: Vec<String> = heard
        .iter()
        .filter(|(path, heard)| declared.get(*path) != Some(heard))
        .map(|(path, heard)| format!("{path} {}", heard.join(" ")))
        .collect();
    assert!(wrong.is_empty(), "not as declared in {}, columns {WAYS:?}:\n{}", file.display(), wrong.join("\n"));
    let gone: Vec<_> = declared.keys().filter(|path| !heard.contains_key(*path)).collect();
    assert!(gone.is_empty(), "declared and not in the contracts: {gone:?}");
    // What a golden file must never be made to say. A call inside the mesh is none here, whoever asks.
    for (path, heard) in &heard {
        let methods = Methods::load();
        let method = methods.get(path).unwrap();
        let (mesh, read) = (method.exposure == Exposure::Mesh, method.idempotency == IdempotencyClass::Read);
        for (way, reason) in WAYS.iter().zip(heard) {
            let elsewhere = mesh && reason == "NOT_FOUND";
            let allowed = read && *way == "read-only" && reason == "passes";
            assert!(elsewhere || allowed || ADMISSION.contains(&reason.as_str()), "{path}, {way}: {reason}");
        }
    }
    assert!(
        world
            .upstream
            .seen
            .lock()
            .unwrap()
            .iter()
            .all(|(_, caller)| caller.as_ref().is_some_and(|caller| caller.principal.as_str() == "reader"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_opens_no_connection_for_any_rpc() {
    let world = world().await;
    let past = time::OffsetDateTime::now_utc() - time::Duration::minutes(1);
    world.pki.issue_as("clients/machine", &["spiffe://dalp.dev/clients/machine"], |params| params.not_after = past);
    for method in Methods::load().iter() {
        let channel = world.pki.channel_with(world.gateway.addr, Some("clients/machine"));
        let mut grpc = tonic::client::Grpc::new(channel);
        let ready = grpc.ready().await;
        let refused = match ready {
            Err(_) => true,
            Ok(()) => {
                let request = Request::new(futures::stream::iter([Vec::new()]));
                let path = method.path.parse::<PathAndQuery>().unwrap();
                let answer = grpc.streaming(request, path, Raw).await;
                answer.is_err_and(|status| Refusal::details(&status).is_none())
            }
        };
        assert!(refused, "{}: there must be no connection", method.path);
    }
    // The same name with a certificate that holds.
    let channel = world.pki.channel(world.gateway.addr, Some("clients/machine"));
    call(&channel, "/dalp.feeds.v1.FeedService/GetLatest", None, None).await.unwrap();
}

#[tokio::test]
async fn what_there_is_to_call_is_told_to_whom_the_configuration_says() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let ask = async |world: &World, key: Option<&str>| {
        let question = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut request = Request::new(futures::stream::iter([question]));
        if let Some(key) = key {
            request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        }
        let mut client = ServerReflectionClient::new(world.pki.channel(world.gateway.addr, None));
        match client.server_reflection_info(request).await {
            Ok(answer) => heard(answer.into_inner().message().await.map(drop)),
            Err(status) => heard(Err(status)),
        }
    };
    let usual = world().await;
    assert_eq!(ask(&usual, None).await, "UNAUTHENTICATED_MISSING");
    assert_eq!(ask(&usual, Some(usual.keys.expired.expose())).await, "API_KEY_EXPIRED");
    assert_eq!(ask(&usual, Some(usual.keys.poor.expose())).await, "OK", "whoever proves who it is");
    let open = world_with("reflection = \"open\"", "").await;
    assert_eq!(ask(&open, None).await, "OK");
    let off = world_with("reflection = \"off\"", "").await;
    assert_eq!(ask(&off, Some(off.keys.operator.expose())).await, "NOT_IMPLEMENTED");
}
