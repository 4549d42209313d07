//! Takes in the body of an HTTP request, within limits of size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dalp_service::{Reason, Refusal};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use tonic::body::Body;

use super::problem::{Problem, invalid};

/// So much of a body that is too large is read and dropped before it is refused: a connection that is closed while the other end still sends is reset,
/// and the answer is lost with it (RFC 9112, 9.6). What announces more than that is refused unread.
const DROPPED_BYTES: usize = 1024 * 1024;

/// How much may come, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest body.
    pub bytes: usize,
    /// Until all of it is here.
    pub within: Duration,
}

// === impl Limits ===

impl Limits {
    /// The whole body.
    ///
    /// # Errors
    /// `MESSAGE_TOO_LARGE` (413), `DEADLINE` (408), `INVALID_FIELD` when it breaks off.
    pub async fn collect(self, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
        match tokio::time::timeout(self.within, self.read(headers, body)).await {
            Ok(read) => read,
            Err(_) => {
                let refusal = Refusal::new(Reason::Deadline, "the body did not arrive in time");
                Err(Problem::with(&refusal, StatusCode::REQUEST_TIMEOUT))
            }
        }
    }

    async fn read(self, headers: &HeaderMap, mut body: Body) -> Result<Bytes, Problem> {
        let read_most = self.bytes.saturating_add(DROPPED_BYTES);
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > read_most as u64) {
            return Err(self.too_large());
        }
        let (mut kept, mut arrived) = (BytesMut::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| invalid("body", "broke off"))?.into_data() else { continue };
            arrived = arrived.saturating_add(data.len());
            if arrived <= self.bytes {
                kept.extend_from_slice(&data);
            } else if arrived > read_most {
                break;
            }
        }
        if arrived > self.bytes { Err(self.too_large()) } else { Ok(kept.freeze()) }
    }

    fn too_large(self) -> Problem {
        let refusal = Refusal::new(Reason::MessageTooLarge, format!("the body has more than {} bytes", self.bytes));
        refusal.meta("limit_bytes", self.bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::StreamExt as _;
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 1000, within: Duration::from_millis(50) };

    /// So many chunks of 100 bytes each, and how many were taken.
    fn chunks(count: usize) -> (Body, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let chunks = futures::stream::iter(0..count).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&[b'x'; 100])))
        });
        (Body::new(StreamBody::new(chunks)), taken)
    }

    async fn refused(headers: &HeaderMap, body: Body) -> u16 {
        LIMITS.collect(headers, body).await.unwrap_err().http().as_u16()
    }

    #[tokio::test]
    async fn a_body_is_taken_up_to_the_limit() {
        let (body, _) = chunks(10);
        assert_eq!(LIMITS.collect(&HeaderMap::new(), body).await.unwrap().len(), 1000);
    }

    #[tokio::test]
    async fn what_is_too_large_is_read_before_it_is_refused_but_not_without_end() {
        let none = HeaderMap::new();
        let (body, taken) = chunks(700);
        assert_eq!((refused(&none, body).await, taken.load(Ordering::Relaxed)), (413, 700), "to its end");
        let (body, taken) = chunks(20_000);
        assert_eq!(refused(&none, body).await, 413);
        assert_eq!(taken.load(Ordering::Relaxed), (1000 + DROPPED_BYTES) / 100 + 1, "no further");
        let announced =
            |length: &'static str| HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from_static(length))]);
        let (body, taken) = chunks(700);
        assert_eq!((refused(&announced("70000"), body).await, taken.load(Ordering::Relaxed)), (413, 700));
        let (body, taken) = chunks(700);
        assert_eq!((refused(&announced("99999999"), body).await, taken.load(Ordering::Relaxed)), (413, 0), "unread");
    }

    #[tokio::test]
    async fn what_does_not_come_or_breaks_off_is_refused() {
        let endless = futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        assert_eq!(refused(&HeaderMap::new(), Body::new(StreamBody::new(endless))).await, 408);
        let broken = futures::stream::iter([Err::<Frame<Bytes>, _>(std::io::Error::other("broken"))]);
        assert_eq!(refused(&HeaderMap::new(), Body::new(StreamBody::new(broken))).await, 400);
    }
}
