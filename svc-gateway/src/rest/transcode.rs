//! One HTTP request as one gRPC call, and its answer as JSON.

use std::time::Duration;

use bytes::Bytes;
use dalp_proto::operation::OperationState;
use dalp_service::{
    Reason, Refusal,
    caller::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED, TENANT},
    deadline::GRPC_TIMEOUT,
    server::Next,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use http_body_util::BodyExt as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};
use tonic::{Code, Status, body::Body};
use tower::ServiceExt as _;

use super::{
    frames::{self, Unframed},
    front::Shared,
    lines, message, prefer,
    problem::{self, Problem, invalid},
    query,
    routes::{Found, Route},
    template::Bound,
};
use crate::verification::header::HEADER;

/// What of a request's head goes on with the call. Nothing else does: the rest is about the connection, or not for us.
const GOES_ON: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::USER_AGENT,
    HeaderName::from_static(IDEMPOTENCY_KEY),
    HeaderName::from_static(TENANT),
    HEADER,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];
/// What of an answer's head comes back.
const COMES_BACK: [HeaderName; 2] =
    [HeaderName::from_static(IDEMPOTENCY_KEY), HeaderName::from_static(IDEMPOTENCY_REPLAYED)];
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// A wait for a set-up call looks so often whether an approval is pending.
const SLICE: Duration = Duration::from_secs(2);
const WAIT: &str = "/dalp.operation.v1.OperationService/WaitOperation";

/// Answers a request for a route of the contracts.
pub(super) async fn answer(shared: &Shared, request: Request<Body>, next: Next) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (route, bound) = match shared.table.find(&head.method, head.uri.path()) {
        Found::Route(route, bound) => (route, bound),
        Found::OtherVerbs(verbs) => return other_verb(&head.method, &verbs),
        Found::Nothing => {
            return Problem::from(Refusal::new(Reason::NotFound, "there is nothing under this path")).response();
        }
    };
    match transcode(shared, route, bound, head, body, next).await {
        Ok(response) => response,
        Err((headers, problem)) => {
            let mut response = problem.response();
            hand_back(&headers, response.headers_mut());
            response
        }
    }
}

/// A refusal, with the head of the answer that it stood in: a client learns its idempotency key also from a refusal.
type Refused = (HeaderMap, Problem);

async fn transcode(
    shared: &Shared,
    route: &Route,
    bound: Bound,
    head: request::Parts,
    body: Body,
    next: Next,
) -> Result<Response<Body>, Refused> {
    let early = |problem: Problem| (HeaderMap::new(), problem);
    let headers = outgoing(&head.headers);
    let body = request_body(shared, route, bound, &head, body).await.map_err(early)?;
    let (body, again) = repeatable(route, &head.headers, body).await;
    let response = call(next.clone(), &route.method.path, &headers, body).await;
    let (parts, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers).filter(|status| status.code() != Code::Ok) {
        return Err((parts.headers, status.into()));
    }
    let mut response = if route.rpc.is_server_streaming() {
        let mut response = Response::new(lines::answers(body, route.rpc.output()));
        response.headers_mut().insert(header::CONTENT_TYPE, lines::NDJSON);
        response
    } else {
        match unary(body, &route.rpc.output()).await {
            Ok(answer) => {
                let again = again.zip(parts.headers.get(IDEMPOTENCY_KEY).cloned());
                let finished = finished(shared, route, &head.headers, &headers, (answer, again), next).await;
                finished.map_err(|(mut refused, problem)| {
                    // The repeat was ours: the caller asked once, and hears what that was.
                    if let Some(replayed) = parts.headers.get(IDEMPOTENCY_REPLAYED) {
                        refused.insert(IDEMPOTENCY_REPLAYED, replayed.clone());
                    }
                    (refused, problem)
                })?
            }
            Err(status) => return Err((parts.headers, status.into())),
        }
    };
    hand_back(&parts.headers, response.headers_mut());
    Ok(response)
}

/// The message of a set-up call that its caller would like to wait for, to be sent once more.
async fn repeatable(route: &Route, asked: &HeaderMap, body: Body) -> (Body, Option<Bytes>) {
    if !route.method.setup || prefer::wait(asked).is_none() {
        return (body, None);
    }
    match body.collect().await {
        Ok(whole) => {
            let message = whole.to_bytes();
            (problem::full(message.clone()), Some(message))
        }
        Err(_) => (Body::empty(), None),
    }
}

/// A set-up call as a repeat of it is answered, if that says that an approval is pending.
async fn pending(
    route: &Route,
    headers: &HeaderMap,
    (message, key): &(Bytes, HeaderValue),
    next: Next,
) -> Option<Refused> {
    let mut headers = headers.clone();
    headers.insert(IDEMPOTENCY_KEY, key.clone());
    headers.remove(HEADER);
    let response = call(next, &route.method.path, &headers, problem::full(message.clone())).await;
    let status = Status::from_header_map(response.headers())?;
    let is_pending = Refusal::from_status(&status)?.reason() == Reason::CustodyApprovalPending;
    is_pending.then(|| (response.into_parts().0.headers, status.into()))
}

/// The body of the gRPC call.
async fn request_body(
    shared: &Shared,
    route: &Route,
    bound: Bound,
    head: &request::Parts,
    body: Body,
) -> Result<Body, Problem> {
    let input = route.rpc.input();
    let parameters = query::parameters(head.uri.query().unwrap_or_default())?;
    if route.has_body && !parameters.is_empty() {
        return Err(invalid("query", "this call takes its fields in the body"));
    }
    if route.rpc.is_client_streaming() {
        content_type_is(&head.headers, &lines::NDJSON)?;
        return Ok(lines::requests(body, input, shared.body.bytes));
    }
    let named = bound.iter().chain(&parameters).map(|(name, value)| (name.as_str(), value.as_str()));
    let fields = message::from_object(&input, query::object(&input, named)?)?;
    let request = if route.has_body {
        let bytes = shared.body.collect(&head.headers, body).await?;
        if bytes.is_empty() {
            fields
        } else {
            content_type_is(&head.headers, &problem::JSON)?;
            let in_path: Vec<_> = route.template.variables().collect();
            message::with_path_fields(message::from_json(&input, &bytes)?, &fields, &in_path)?
        }
    } else {
        fields
    };
    let framed = frames::frame(&message::encode(&request));
    framed.map(problem::full).ok_or_else(|| Refusal::new(Reason::MessageTooLarge, "the message is too large").into())
}

/// A form of a browser needs no permission of ours to be sent, so that only the media type of a program is taken.
fn content_type_is(headers: &HeaderMap, wanted: &HeaderValue) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    match media_type.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()) {
        true => Ok(()),
        false => {
            let wanted = wanted.to_str().unwrap_or_default();
            let refusal = Refusal::new(Reason::InvalidField, format!("send the body as {wanted}"))
                .field("content-type", format!("is not {wanted}"));
            Err(Problem::with(&refusal, StatusCode::UNSUPPORTED_MEDIA_TYPE))
        }
    }
}

/// The metadata of the call.
fn outgoing(headers: &HeaderMap) -> HeaderMap {
    let mut outgoing = HeaderMap::new();
    for name in &GOES_ON {
        for value in headers.get_all(name) {
            outgoing.append(name, value.clone());
        }
    }
    outgoing.insert(header::CONTENT_TYPE, GRPC);
    outgoing.insert(header::TE, HeaderValue::from_static("trailers"));
    outgoing
}

/// Makes a gRPC call through the listener's pipeline.
async fn call(next: Next, path: &str, headers: &HeaderMap, body: Body) -> Response<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    // A path of the contracts is always a path.
    *request.uri_mut() = path.parse().unwrap_or_default();
    *request.headers_mut() = headers.clone();
    match next.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The one message of an answer.
async fn unary(body: Body, output: &MessageDescriptor) -> Result<DynamicMessage, Status> {
    let collected = body.collect().await?;
    if let Some(status) = collected.trailers().and_then(Status::from_header_map)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let mut unframed = Unframed::default();
    unframed.push(&collected.to_bytes());
    let answer = unframed.next_message().ok().flatten().and_then(|bytes| message::decode(output, &bytes));
    answer.ok_or_else(|| Refusal::new(Reason::Internal, "the answer cannot be understood").to_status())
}

/// The answer, after the wait that its caller would like. A set-up call comes with its message and key: its wait ends once a repeat would say that an
/// approval is pending.
async fn finished(
    shared: &Shared,
    route: &Route,
    asked: &HeaderMap,
    headers: &HeaderMap,
    (mut answer, again): (DynamicMessage, Option<(Bytes, HeaderValue)>),
    next: Next,
) -> Result<Response<Body>, Refused> {
    let mut applied = None;
    if route.accepts_an_operation()
        && let (Some(wait), Some(operation)) = (prefer::wait(asked), unfinished(&answer, false))
    {
        let mut left = wait;
        while !left.is_zero() && unfinished(&answer, false).is_some() {
            let slice = if again.is_some() { left.min(SLICE) } else { left };
            let Some(waited) = wait_for(shared, &operation, slice, headers, next.clone()).await else { break };
            left = left.saturating_sub(slice);
            answer.set_field_by_name("operation", Value::Message(waited));
            applied = prefer::applied(wait);
            if let (Some(again), Some(_)) = (&again, unfinished(&answer, false))
                && let Some(refused) = pending(route, headers, again, next.clone()).await
            {
                return Err(refused);
            }
        }
    }
    let mut response = Response::new(problem::full(message::to_json(&answer)));
    let sent = response.headers_mut();
    sent.insert(header::CONTENT_TYPE, problem::JSON);
    if let Some(applied) = applied {
        sent.insert(prefer::PREFERENCE_APPLIED, applied);
    }
    if let Some(operation) = unfinished(&answer, true).filter(|_| route.accepts_an_operation()) {
        if let Ok(location) = HeaderValue::from_str(&format!("/v1/operations/{operation}")) {
            sent.insert(header::LOCATION, location);
        }
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

/// The identifier of the operation in an answer, while it runs; `or_held`: also while it waits for a second person, who may take days.
fn unfinished(answer: &DynamicMessage, or_held: bool) -> Option<String> {
    let operation = answer.get_field_by_name("operation")?;
    let operation = operation.as_message().filter(|operation| {
        operation.descriptor().full_name() == dalp_operation() && operation.has_field_by_name("operation_id")
    })?;
    let state = operation.get_field_by_name("state")?.as_enum_number()?;
    let id = operation.get_field_by_name("operation_id")?.as_str()?.to_owned();
    let is = |one: OperationState| state == i32::from(one);
    (is(OperationState::Running) || or_held && is(OperationState::AwaitingChecker)).then_some(id)
}

fn dalp_operation() -> &'static str {
    "dalp.operation.v1.Operation"
}

/// Waits through the pipeline, with the credential of the request; `None` when its principal may not.
async fn wait_for(
    shared: &Shared,
    operation: &str,
    wait: Duration,
    headers: &HeaderMap,
    next: Next,
) -> Option<DynamicMessage> {
    let asked = dalp_proto::operation::WaitOperationRequest {
        operation_id: operation.to_owned(),
        timeout: prost_types::Duration::try_from(wait).ok(),
    };
    let body = frames::frame(&prost::Message::encode_to_vec(&asked)).map(problem::full)?;
    let mut headers = headers.clone();
    headers.remove(IDEMPOTENCY_KEY);
    headers.remove(HEADER);
    headers.remove(GRPC_TIMEOUT);
    let response = call(next, WAIT, &headers, body).await;
    if Status::from_header_map(response.headers()).is_some_and(|status| status.code() != Code::Ok) {
        return None;
    }
    let answer = unary(response.into_body(), &shared.wait_response).await.ok()?;
    answer.get_field_by_name("operation")?.as_message().cloned()
}

fn hand_back(from: &HeaderMap, to: &mut HeaderMap) {
    for name in &COMES_BACK {
        if let Some(value) = from.get(name) {
            to.insert(name.clone(), value.clone());
        }
    }
}

fn other_verb(asked: &Method, verbs: &[dalp_proto::Verb]) -> Response<Body> {
    let allowed = verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
    let refusal = Refusal::new(Reason::NotFound, format!("there is no {asked} here, but {allowed}"));
    let mut response = Problem::with(&refusal, StatusCode::METHOD_NOT_ALLOWED).response();
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}
