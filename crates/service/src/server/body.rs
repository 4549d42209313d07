//! Body wrappers: one limits incoming messages, one sees how a response ends.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::{Code, Status};

use crate::errors::{Reason, Refusal};

/// The length of the gRPC message header: one byte of flags, four of length.
const HEADER_BYTES: usize = 5;

/// Ends with a typed refusal as soon as a message announces a length above the limit, before it is read, or says that it is
/// compressed: nobody here unpacks anything. So it does when the next message, or the end, does not arrive in time.
///
/// It also ends at trailers and drops them: gRPC requests have none, and what reads metadata further on would let them
/// replace headers that were checked, the caller context among them.
pub(super) struct LimitedBody<B> {
    inner: B,
    limit_bytes: usize,
    /// How long a message, or the end, may take.
    read_within: Option<Duration>,
    /// Each message of several has its time. Of a call that takes one, the end has: messages without end must not put it off.
    each: bool,
    /// Runs while one is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
    header: Header,
    /// Tells the pipeline, because not every service (a proxy) hands a body's error on as it was.
    refused: Arc<OnceLock<Refusal>>,
}

/// What a request body is held to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The largest message.
    pub(super) message_bytes: usize,
    /// How long a message, or the end, may take.
    pub(super) read_within: Option<Duration>,
    /// The call takes several messages, and each has that time.
    pub(super) each: bool,
}

/// Follows the message boundaries through arbitrary frames.
#[derive(Default)]
struct Header {
    partial: [u8; HEADER_BYTES],
    filled: usize,
    message_bytes_left: usize,
}

impl<B> LimitedBody<B> {
    pub(super) fn new(inner: B, limits: Limits, refused: Arc<OnceLock<Refusal>>) -> Self {
        let Limits { message_bytes: limit_bytes, read_within, each } = limits;
        Self { inner, limit_bytes, read_within, each, waiting: None, header: Header::default(), refused }
    }

    fn refuse(&self, refusal: Refusal) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let status = refusal.to_status();
        // Only this body sets it, and only once.
        let _ = self.refused.set(refusal);
        Poll::Ready(Some(Err(status)))
    }

    /// Whether what is waited for has taken too long.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let Some(read_within) = self.read_within else { return false };
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(read_within)));
        waiting.as_mut().poll(context).is_ready()
    }
}

/// Why a message is not read.
#[derive(Debug, PartialEq, Eq)]
enum Unwanted {
    TooLong(usize),
    Compressed,
}

impl Header {
    /// Takes a frame in, and says whether a message ended in it.
    fn scan(&mut self, mut data: &[u8], limit_bytes: usize) -> Result<bool, Unwanted> {
        let mut ended = false;
        while !data.is_empty() {
            if self.message_bytes_left > 0 {
                let step = self.message_bytes_left.min(data.len());
                self.message_bytes_left -= step;
                data.advance(step);
                ended |= self.message_bytes_left == 0;
                continue;
            }
            let step = (HEADER_BYTES - self.filled).min(data.len());
            self.partial[self.filled..self.filled + step].copy_from_slice(&data[..step]);
            self.filled += step;
            data.advance(step);
            if self.filled == HEADER_BYTES {
                let [flags, a, b, c, d] = self.partial;
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if length > limit_bytes {
                    return Err(Unwanted::TooLong(length));
                }
                if flags != 0 {
                    return Err(Unwanted::Compressed);
                }
                ended |= length == 0;
                self.filled = 0;
                self.message_bytes_left = length;
            }
        }
        Ok(ended)
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(refusal) = self.refused.get() {
            return Poll::Ready(Some(Err(refusal.to_status())));
        }
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if self.is_late(context) => {
                let why = "the next message of the request, or its end, did not arrive in time";
                return self.refuse(Refusal::new(Reason::Deadline, why));
            }
            Poll::Pending => return Poll::Pending,
        };
        if frame.is_trailers() {
            return Poll::Ready(None);
        }
        let limit_bytes = self.limit_bytes;
        match frame.data_ref().map(|data| self.header.scan(data, limit_bytes)) {
            Some(Ok(ended)) if ended && self.each => self.waiting = None,
            Some(Ok(_)) | None => {}
            Some(Err(Unwanted::TooLong(message_bytes))) => {
                let why = format!("the message has {message_bytes} bytes, the limit is {limit_bytes}");
                let refusal = Refusal::new(Reason::MessageTooLarge, why)
                    .meta("message_bytes", message_bytes)
                    .meta("limit_bytes", limit_bytes);
                return self.refuse(refusal);
            }
            Some(Err(Unwanted::Compressed)) => {
                let why = "compressed messages are not taken; send them as they are";
                return self.refuse(Refusal::new(Reason::NotImplemented, why).meta("grpc-accept-encoding", "identity"));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Calls `finished` once with the gRPC code the response ended with; a dropped response counts as cancelled.
pub(super) struct ObservedBody<F: FnOnce(Code)> {
    inner: tonic::body::Body,
    finished: Option<F>,
}

impl<F: FnOnce(Code)> ObservedBody<F> {
    pub(super) fn new(inner: tonic::body::Body, finished: F) -> Self {
        Self { inner, finished: Some(finished) }
    }

    fn finish(&mut self, code: Code) {
        if let Some(finished) = self.finished.take() {
            finished(code);
        }
    }
}

impl<F: FnOnce(Code) + Unpin> Body for ObservedBody<F> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().and_then(code_of) {
                    self.finish(code);
                }
            }
            Poll::Ready(Some(Err(status))) => self.finish(status.code()),
            Poll::Ready(None) => self.finish(Code::Ok),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<F: FnOnce(Code)> Drop for ObservedBody<F> {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}

/// The `grpc-status` of headers or trailers.
pub(super) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend(std::iter::repeat_n(7, length));
        bytes
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_are_cut() {
        let stream = [message(3), message(0), message(10), message(11)].concat();
        for cut in 1..=stream.len() {
            let mut header = Header::default();
            let refused = stream.chunks(cut).find_map(|piece| header.scan(piece, 10).err());
            assert_eq!(refused, Some(Unwanted::TooLong(11)), "cut at {cut}");
            let mut header = Header::default();
            let ended: Vec<bool> = stream.chunks(cut).map(|piece| header.scan(piece, 11).unwrap()).collect();
            assert_eq!(ended.last(), Some(&true), "cut at {cut}");
        }
        assert_eq!(Header::default().scan(&[1, 0, 0, 0, 1, 7], 10), Err(Unwanted::Compressed));
    }
}
