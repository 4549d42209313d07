//! Streams as newline-delimited JSON: one message a line upwards; downwards one `{"result": ...}` a line, and `{"error": ...}`
//! as the last one when the stream ends with a refusal.

use bytes::{Bytes, BytesMut};
use dalp_service::{Reason, Refusal};
use futures::stream;
use http::HeaderValue;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost_reflect::MessageDescriptor;
use tonic::{Code, Status, body::Body};

use super::{
    frames::{self, Unframed},
    message, problem,
};

/// The media type of a stream.
pub(crate) const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// Takes lines out of a body, however its bytes are cut. Blank lines are none.
#[derive(Debug)]
pub struct Lines {
    held: BytesMut,
    /// Up to here no line ends.
    seen: usize,
    limit_bytes: usize,
}

/// A line longer than a message may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

// === impl Lines ===

impl Lines {
    /// Lines of at most `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { held: BytesMut::new(), seen: 0, limit_bytes }
    }

    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole line that is not blank; at the end of the body also what has no newline behind it.
    pub fn next_line(&mut self, is_end: bool) -> Result<Option<Bytes>, TooLong> {
        loop {
            let line = match self.held[self.seen..].iter().position(|&byte| byte == b'\n') {
                Some(at) => {
                    let mut line = self.held.split_to(self.seen + at + 1);
                    line.truncate(line.len() - 1);
                    line
                }
                None if self.held.len() > self.limit_bytes => return Err(TooLong),
                None if is_end && !self.held.is_empty() => self.held.split(),
                None => {
                    self.seen = self.held.len();
                    return Ok(None);
                }
            };
            self.seen = 0;
            if line.len() > self.limit_bytes {
                return Err(TooLong);
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(line.freeze()));
            }
        }
    }
}

/// The body of a client-streaming call, out of a body of lines. It fails with a refusal that names the line.
pub(crate) fn requests(body: Body, input: MessageDescriptor, limit_bytes: usize) -> Body {
    struct State {
        body: Body,
        lines: Lines,
        number: usize,
        is_end: bool,
    }
    let state = State { body, lines: Lines::new(limit_bytes), number: 0, is_end: false };
    let frames = stream::try_unfold(state, move |mut state| {
        let input = input.clone();
        async move {
            loop {
                let too_long =
                    |_| Refusal::new(Reason::MessageTooLarge, "a line is too long").meta("limit_bytes", limit_bytes);
                if let Some(line) = state.lines.next_line(state.is_end).map_err(|error| too_long(error).to_status())? {
                    state.number += 1;
                    let message = message::from_json(&input, &line).map_err(|problem| {
                        let place = format!("line {}", state.number);
                        Status::clone(problem::invalid(&place, &problem.to_string()).status())
                    })?;
                    let framed = frames::frame(&message::encode(&message));
                    return Ok::<_, Status>(framed.map(|framed| (Frame::data(framed), state)));
                }
                if state.is_end {
                    return Ok(None);
                }
                match state.body.frame().await {
                    Some(frame) => {
                        if let Ok(bytes) = frame?.into_data() {
                            state.lines.push(&bytes);
                        }
                    }
                    None => state.is_end = true,
                }
            }
        }
    });
    Body::new(StreamBody::new(frames))
}

/// The lines of a server stream.
pub(crate) fn answers(body: Body, output: MessageDescriptor) -> Body {
    struct State {
        body: Body,
        unframed: Unframed,
        is_over: bool,
    }
    let state = State { body, unframed: Unframed::default(), is_over: false };
    let lines = stream::unfold(state, move |mut state| {
        let output = output.clone();
        async move {
            if state.is_over {
                return None;
            }
            let ended = loop {
                match state.unframed.next_message() {
                    Ok(Some(bytes)) => match message::decode(&output, &bytes) {
                        Some(answer) => return Some((line("result", &message::to_json(&answer)), state)),
                        None => break not_understood(),
                    },
                    Err(frames::Compressed) => break not_understood(),
                    Ok(None) => {}
                }
                match state.body.frame().await {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(bytes) => state.unframed.push(&bytes),
                        Err(frame) => {
                            if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                                break status;
                            }
                        }
                    },
                    Some(Err(status)) => break status,
                    None => break Refusal::new(Reason::UpstreamUnavailable, "the stream broke off").to_status(),
                }
            };
            state.is_over = true;
            match ended.code() {
                Code::Ok => None,
                _ => Some((line("error", problem::document(&ended).to_string().as_bytes()), state)),
            }
        }
    });
    Body::new(StreamBody::new(lines))
}

fn not_understood() -> Status {
    Refusal::new(Reason::Internal, "an answer cannot be understood").to_status()
}

fn line(name: &str, json: &[u8]) -> Result<Frame<Bytes>, Status> {
    let mut line = BytesMut::with_capacity(name.len() + json.len() + 6);
    line.extend_from_slice(format!("{{\"{name}\":").as_bytes());
    line.extend_from_slice(json);
    line.extend_from_slice(b"}\n");
    Ok(Frame::data(line.freeze()))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn descriptor(name: &str) -> MessageDescriptor {
        dalp_proto::descriptors().get_message_by_name(name).unwrap()
    }

    fn body(pieces: Vec<Frame<Bytes>>) -> Body {
        Body::new(StreamBody::new(stream::iter(pieces.into_iter().map(Ok::<_, Status>))))
    }

    async fn text(body: Body) -> String {
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn lines_become_messages() {
        let text = "{\"header\":{}}\n\n{\"list\":\"YWI=\"}\r\n{\"end\":{}}";
        let pieces = text.as_bytes().chunks(3).map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
        let name = "dalp.distribution.v1.ValidateRecipientsRequest";
        let framed = requests(body(pieces), descriptor(name), 100).collect().await.unwrap().to_bytes();
        let mut unframed = Unframed::default();
        unframed.push(&framed);
        let mut lists = 0;
        while let Some(message) = unframed.next_message().unwrap() {
            use dalp_proto::distribution::{ValidateRecipientsRequest, validate_recipients_request::Part};
            if let Some(Part::List(list)) = ValidateRecipientsRequest::decode(message).unwrap().part {
                assert_eq!(list, b"ab");
                lists += 1;
            }
        }
        assert_eq!(lists, 1);
    }

    #[tokio::test]
    async fn a_bad_line_is_named_and_a_long_one_refused() {
        let of = |text: &'static str| {
            let body = body(vec![Frame::data(Bytes::from_static(text.as_bytes()))]);
            requests(body, descriptor("dalp.distribution.v1.ValidateRecipientsRequest"), 30).collect()
        };
        let bad = of("{\"end\":{}}\n{\"ent\":{}}\n").await.unwrap_err();
        assert!(bad.message().contains("line 2"), "{bad:?}");
        let long = of("{\"list\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}").await.unwrap_err();
        assert_eq!(Refusal::details(&long).unwrap().reason, "MESSAGE_TOO_LARGE");
    }

    #[tokio::test]
    async fn a_stream_ends_with_what_it_ended_with() {
        let answer = dalp_proto::operation::WatchOperationResponse::default().encode_to_vec();
        let ended = |status: Status| {
            let mut trailers = HeaderMap::new();
            status.add_header(&mut trailers).unwrap();
            let frames = vec![Frame::data(frames::frame(&answer).unwrap()), Frame::trailers(trailers)];
            text(answers(body(frames), descriptor("dalp.operation.v1.WatchOperationResponse")))
        };
        assert_eq!(ended(Status::new(Code::Ok, "")).await, "{\"result\":{}}\n");
        let refused = ended(Refusal::new(Reason::Stopping, "bye").to_status()).await;
        let last: serde_json::Value = serde_json::from_str(refused.lines().last().unwrap()).unwrap();
        assert_eq!(last["error"]["details"][0]["reason"], "STOPPING");
        let broken = text(answers(body(Vec::new()), descriptor("dalp.operation.v1.WatchOperationResponse"))).await;
        assert!(broken.contains("UPSTREAM_UNAVAILABLE"), "{broken}");
    }

    proptest! {
        #[test]
        fn lines_come_out_however_they_are_cut(lines in proptest::collection::vec("[a-z{}]{1,20}", 0..8), cut in 1..40_usize, closed in any::<bool>()) {
            let mut text = lines.join("\n");
            if closed {
                text.push('\n');
            }
            let (mut cutter, mut out) = (Lines::new(20), Vec::new());
            for piece in text.as_bytes().chunks(cut) {
                cutter.push(piece);
                while let Some(line) = cutter.next_line(false).unwrap() {
                    out.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            while let Some(line) = cutter.next_line(true).unwrap() {
                out.push(String::from_utf8(line.to_vec()).unwrap());
            }
            prop_assert_eq!(out, lines);
        }

        #[test]
        fn no_line_is_longer_than_allowed(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200)) {
            let mut cutter = Lines::new(10);
            cutter.push(&bytes);
            while let Ok(Some(line)) = cutter.next_line(true) {
                prop_assert!(line.len() <= 10);
            }
        }
    }
}
