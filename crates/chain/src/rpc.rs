//! JSON-RPC over HTTP to one endpoint: one POST, one or many calls, answers in the order of the calls.

use crate::{
    error::TransportError,
    node_error::{self, NodeError, NodeErrorKind},
};
use reqwest::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::time::Duration;

/// One answer: raw JSON, decoded by the caller into its final type, or the node's refusal.
pub type RpcResult = Result<Box<RawValue>, NodeError>;

/// One call: method and parameters.
pub(crate) type Call = (&'static str, Value);

#[derive(Serialize)]
struct Request<'a> {
    jsonrpc: &'static str,
    id: usize,
    method: &'a str,
    params: &'a Value,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(default)]
    id: Option<usize>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

/// One client for the whole pool: it holds the connections and the trusted roots, and building one per call costs more than
/// the call.
pub(crate) fn shared_client(timeout: Duration) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(5)))
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())
}

/// Posts the calls. The outer error says nothing about them; each inner one is the node's answer to its call.
pub(crate) async fn post(
    client: &reqwest::Client,
    url: &reqwest::Url,
    calls: &[Call],
) -> Result<Vec<RpcResult>, TransportError> {
    let requests: Vec<_> =
        calls.iter().enumerate().map(|(id, (method, params))| Request { jsonrpc: "2.0", id, method, params }).collect();
    let body = match requests.as_slice() {
        [] => return Ok(Vec::new()),
        [single] => serde_json::to_vec(single),
        many => serde_json::to_vec(many),
    }
    .map_err(|error| TransportError::Malformed(error.to_string()))?;

    let response = client
        .post(url.clone())
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .send()
        .await
        .map_err(transport_error)?;
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        return Err(TransportError::RateLimited { retry_after });
    }
    let body = response.bytes().await.map_err(transport_error)?;
    match parse(&body, calls.len()) {
        // A refusal is a refusal, whatever the HTTP status that a node or its proxy puts on it.
        Ok(answers)
            if status.is_success()
                || answers.iter().all(|answer| answer.as_ref().is_err_and(|error| !error.kind.is_about_the_node())) =>
        {
            Ok(answers)
        }
        Err(reason) if status.is_success() => Err(TransportError::Malformed(reason)),
        _ => Err(TransportError::Status(status.as_u16())),
    }
}

fn parse(body: &[u8], expected: usize) -> Result<Vec<RpcResult>, String> {
    let first = body.iter().copied().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(b'[') {
        let single: Response = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let answer = answer(single)?;
        return match answer {
            Err(error) => Ok(vec![Err(error); expected]), // a refusal of the whole batch
            Ok(_) if expected == 1 => Ok(vec![answer]),
            Ok(_) => Err("one result for a batch".into()),
        };
    }
    let responses: Vec<Response> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let mut answers: Vec<Option<RpcResult>> = (0..expected).map(|_| None).collect();
    for response in responses {
        let id = response.id.ok_or("an answer without an id")?;
        let slot = answers.get_mut(id).ok_or("an answer to no call")?;
        *slot = Some(answer(response)?);
    }
    answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| "a call was not answered".into())
}

fn answer(response: Response<'_>) -> Result<RpcResult, String> {
    match (response.error, response.result) {
        (Some(error), _) => Ok(Err(node_error::classify(error.code, &error.message, error.data.as_ref()))),
        (None, Some(result)) => Ok(Ok(result.to_owned())),
        // serde reads `"result": null` as absent; no block, no receipt and the like are answered so.
        (None, None) if response.id.is_some() => Ok(Ok(RawValue::NULL.to_owned())),
        (None, None) => Err("neither result nor error".into()),
    }
}

fn transport_error(error: reqwest::Error) -> TransportError {
    if error.is_timeout() {
        return TransportError::Timeout;
    }
    // The URL may carry an API key, so it must not reach a log.
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    TransportError::Connect(text)
}

/// Whether a node refused a batch as a whole because it is too long.
pub(crate) fn batch_is_too_long(answers: &[RpcResult]) -> bool {
    answers.len() > 1
        && answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.kind == NodeErrorKind::RangeTooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_put_in_the_order_of_the_calls() {
        let body = br#" [{"id":1,"result":"b"},{"id":0,"error":{"code":-32000,"message":"nonce too low"}}]"#;
        let answers = parse(body, 2).expect("parses");
        assert_eq!(answers[0].as_ref().expect_err("refused").kind, NodeErrorKind::NonceTooLow);
        assert_eq!(answers[1].as_ref().expect("answered").get(), "\"b\"");
    }

    #[test]
    fn missing_or_foreign_answers_are_malformed() {
        assert!(parse(br#"[{"id":0,"result":1}]"#, 2).is_err());
        assert!(parse(br#"[{"id":7,"result":1}]"#, 1).is_err());
        assert!(parse(b"{}", 1).is_err());
        assert_eq!(
            parse(br#"{"id":0,"result":null}"#, 1).expect("parses")[0].as_ref().expect("answered").get(),
            "null"
        );
    }
}
