//! Server-sent events: all parts at the beginning, then what changes, and a beat in between.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dalp_service::{server::Next, stop::Stop};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::body::Body;

use super::{
    Desk,
    gathering::{Gathering, Snapshot},
    sessions::TokenDigest,
};
use crate::{metric_definitions as names, principals::Principal};

/// Between two beats. At each the session and its credential are looked at again.
const BEAT: Duration = Duration::from_secs(2);
/// A page that takes nothing for so long is let go; its browser comes again by itself.
const TAKES_WITHIN: Duration = Duration::from_secs(10);
/// After how many milliseconds a browser comes again that lost us.
const COME_AGAIN: &str = "retry: 2000\n\n";

/// A page that is open.
pub(super) struct Page {
    pub(super) desk: Arc<Desk>,
    pub(super) digest: TokenDigest,
    pub(super) gathering: Arc<Gathering>,
    pub(super) stop: Stop,
    /// Its place among the pages of its session.
    pub(super) _place: OwnedSemaphorePermit,
    /// What is under way is waited for when we stop.
    pub(super) _open: Next,
}

/// Counts open pages.
struct Counted;

// === impl Page ===

impl Page {
    /// The answer, which goes on until the session ends, the page goes away, or we stop.
    pub(super) fn stream(self, principal: &Principal) -> Response<Body> {
        let (to_page, events) = mpsc::channel(1);
        let who = json!({ "principal": principal.id.as_str(), "tenant": principal.tenant.as_str() });
        tokio::spawn(self.run(to_page, format!("{COME_AGAIN}event: who\ndata: {who}\n\n").into()));
        let frames = ReceiverStream::new(events).map(|event| Ok::<_, Infallible>(Frame::data(event)));
        let mut response = Response::new(Body::new(StreamBody::new(frames)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response
    }

    async fn run(self, to_page: mpsc::Sender<Bytes>, first: Bytes) {
        let _counted = Counted::new();
        let (mut changes, mut sent) = (self.gathering.subscribe(), Snapshot::default());
        changes.mark_changed();
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        if !takes(&to_page, first).await {
            return;
        }
        loop {
            let events = tokio::select! {
                () = self.stop.requested() => return,
                () = to_page.closed() => return,
                _ = beats.tick() => {
                    let Some(session) = self.desk.sessions.use_of(&self.digest, Instant::now()) else { return };
                    let Ok(principal) = self.desk.again(&session).await else { return };
                    self.gathering.as_it_is(&principal);
                    vec![format!("event: beat\ndata: {}\n\n", OffsetDateTime::now_utc().unix_timestamp()).into()]
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    newer(&mut sent, &changes.borrow_and_update())
                }
            };
            for event in events {
                if !takes(&to_page, event).await {
                    return;
                }
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.gathering.linger();
    }
}

/// Whether a page still takes what it is sent.
async fn takes(to_page: &mpsc::Sender<Bytes>, event: Bytes) -> bool {
    matches!(tokio::time::timeout(TAKES_WITHIN, to_page.send(event)).await, Ok(Ok(())))
}

/// What is not sent yet of what there is, noted as sent.
fn newer(sent: &mut Snapshot, now: &Snapshot) -> Vec<Bytes> {
    let differs = |(before, now): (&mut Option<Bytes>, &Option<Bytes>)| {
        (*before != *now).then(|| {
            before.clone_from(now);
            now.clone()
        })
    };
    sent.iter_mut().zip(now).filter_map(differs).flatten().collect()
}

// === impl Counted ===

impl Counted {
    fn new() -> Self {
        metrics::gauge!(names::GATEWAY_STATUS_PAGES).increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(names::GATEWAY_STATUS_PAGES).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_changed_is_not_sent_again() {
        let (mut sent, mut now) = (Snapshot::default(), Snapshot::default());
        assert!(newer(&mut sent, &now).is_empty());
        now[0] = Some(Bytes::from_static(b"a"));
        now[2] = Some(Bytes::from_static(b"b"));
        assert_eq!(newer(&mut sent, &now), ["a", "b"]);
        now[2] = Some(Bytes::from_static(b"c"));
        assert_eq!(newer(&mut sent, &now), ["c"]);
        assert!(newer(&mut sent, &now).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_takes_nothing_is_let_go() {
        let (to_page, events) = mpsc::channel(1);
        assert!(takes(&to_page, Bytes::from_static(b"first")).await);
        assert!(!takes(&to_page, Bytes::from_static(b"second")).await, "the first one still lies there");
        drop(events);
        assert!(!takes(&to_page, Bytes::from_static(b"third")).await, "it has gone away");
    }
}
