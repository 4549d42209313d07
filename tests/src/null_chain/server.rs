//! JSON-RPC over HTTP: single calls and batches.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::answer::{self, Answer, Parameters, RpcError};
use super::fault::Fault;
use super::{Shared, locked};

const PARSE_ERROR: i64 = -32_700;

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    id: Value,
    method: String,
    #[serde(default)]
    params: Option<Vec<Value>>,
}

#[derive(Serialize)]
struct Reply {
    jsonrpc: &'static str,
    id: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RpcError>,
}

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection breaks before the answer")]
struct Broken;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut open = JoinSet::new(); // ended with this task
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        while open.try_join_next().is_some() {}
        open.spawn(converse(socket, shared.clone()));
    }
}

async fn converse(socket: TcpStream, shared: Arc<Shared>) {
    let _ = socket.set_nodelay(true); // slower without, not wrong
    let service = service_fn(|request| respond(&shared, request));
    // A client that goes away, or a connection that is broken on purpose.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

async fn respond(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Broken> {
    let body = request.into_body().collect().await.map_err(|_| Broken)?.to_bytes();
    let book = shared.book.read().await;
    let answer = match (&*book, &shared.behind) {
        (Some(book), _) => answers(shared, book, &body).await?,
        (None, Some(behind)) => behind.pass(body).await.map_err(|_| Broken)?,
        (None, None) => return Err(Broken),
    };
    let response = Response::builder().header("content-type", "application/json").body(Full::new(answer));
    response.map_err(|_| Broken)
}

async fn answers(shared: &Shared, book: &std::sync::Mutex<super::book::Book>, body: &[u8]) -> Result<Bytes, Broken> {
    let is_batch = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let calls: Vec<Call> =
        match if is_batch { serde_json::from_slice(body) } else { serde_json::from_slice(body).map(|call| vec![call]) }
        {
            Ok(calls) => calls,
            Err(error) => return Ok(written(&reply(Value::Null, Err(RpcError::new(PARSE_ERROR, error.to_string()))))),
        };
    let (mut replies, mut broken) = (Vec::with_capacity(calls.len()), false);
    for Call { id, method, params } in calls {
        *locked(&shared.calls).entry(method.clone()).or_default() += 1;
        let fault = locked(&shared.faults).next(&method);
        let answer = match &fault {
            Some(Fault::Refuse { code, message }) => Err(RpcError::new(*code, message)),
            fault => {
                let forget = matches!(fault, Some(Fault::Drop));
                answer::answer(shared, book, &method, Parameters(params.as_deref().unwrap_or_default()), forget).await
            }
        };
        match fault {
            Some(Fault::Delay(by)) => tokio::time::sleep(by).await,
            Some(Fault::Break) => broken = true,
            _ => {}
        }
        replies.push(reply(id, answer));
    }
    if broken {
        return Err(Broken);
    }
    Ok(if is_batch { written(&replies) } else { replies.first().map(written).unwrap_or_default() })
}

fn reply(id: Value, answer: Answer) -> Reply {
    let (result, error) = match answer {
        Ok(result) => (Some(result), None),
        Err(error) => (None, Some(error)),
    };
    Reply { jsonrpc: "2.0", id, result, error }
}

fn written<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}
