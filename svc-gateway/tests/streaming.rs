//! Bidirectional streams pass through an upstream's forwarding message by message, in both directions, trailers included.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{convert::Infallible, sync::Arc, time::Duration};

use dalp_service::{
    config::{ServerConfig, TlsConfig},
    server::{PeerPolicy, Routes, Server},
    stop::Stop,
    tls::ClientTls,
};
use http::Request;
use svc_gateway::upstreams::Upstream;
use tonic::body::Body;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

fn question(symbol: &str) -> ServerReflectionRequest {
    ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(symbol.to_owned())),
    }
}

#[tokio::test]
async fn each_message_passes_when_it_is_sent() {
    let (pki, stop) = (support::Pki::new(), Stop::new());
    let server: ServerConfig =
        toml::from_str(&format!("listen = \"127.0.0.1:0\"\n[tls]\n{}", pki.issue("svc-feeds"))).unwrap();
    let server = Server::new("svc-feeds", &server, PeerPolicy::deny_all()).bind().await.unwrap();
    let address = server.bound_addr();
    let until = stop.clone();
    tokio::spawn(async move { server.serve(Routes::default(), &until).await });

    let tls: TlsConfig = toml::from_str(&pki.issue("svc-gateway")).unwrap();
    let config = format!("name = \"svc-feeds\"\naddress = \"{address}\"\nspiffe_id = \"spiffe://dalp.dev/svc-feeds\"");
    let upstream = Upstream::new(&toml::from_str(&config).unwrap(), &ClientTls::load(&tls).unwrap());
    let proxy = tower::service_fn(move |request: Request<Body>| {
        let upstream = upstream.clone();
        async move { Ok::<_, Infallible>(upstream.forward(request, Arc::default()).await) }
    });

    let (asks, asked) = tokio::sync::mpsc::channel(1);
    let mut client = ServerReflectionClient::with_origin(proxy, "http://localhost".parse().unwrap());
    asks.send(question("dalp.feeds.v1.FeedService")).await.unwrap();
    let mut answers =
        client.server_reflection_info(tokio_stream::wrappers::ReceiverStream::new(asked)).await.unwrap().into_inner();
    // Each question is sent only after the answer to the one before: the stream is open in both directions.
    for symbol in ["dalp.asset.v1.AssetService", "dalp.operation.v1.Operation"] {
        let answer = tokio::time::timeout(Duration::from_secs(10), answers.message()).await.unwrap().unwrap().unwrap();
        assert!(matches!(answer.message_response, Some(MessageResponse::FileDescriptorResponse(_))));
        asks.send(question(symbol)).await.unwrap();
    }
    assert!(answers.message().await.unwrap().is_some());
    drop(asks);
    assert!(answers.message().await.unwrap().is_none(), "ends with the upstream's own trailers");
    stop.request();
}
