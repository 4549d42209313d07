//! `dalp.event.v1.EventService`: the tenant's events from the engine's outbox, in commit order.

use std::{collections::VecDeque, pin::Pin};

use dalp_engine::{OutboxCursor, OutboxEvent, Reader, TenantId};
use dalp_proto::event::{
    Event, EventFilter, ListEventsRequest, ListEventsResponse, WatchEventsRequest, WatchEventsResponse,
    event_service_server::EventService,
};
use dalp_service::{Reason, Refusal, errors::RefusalResult, fields, stop::Stop};
use futures::{Stream, stream};
use tonic::{Request, Response, Status};

use crate::requests::{foreign_page_token, invalid, page_size, store_refusal, tenant};

/// Events read from the database at once.
const READ_AT_ONCE: u32 = 500;
/// Reads of one page whose filter lets little through; then the page ends, and its token goes on from there.
const READS_PER_PAGE: usize = 10;
const MAX_TYPES: usize = 20;
const MAX_TYPE_CHARACTERS: usize = 100;

/// Serves a tenant's events.
#[derive(Clone, Debug)]
pub struct Events {
    reader: Reader,
    stop: Stop,
}

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    types: Vec<String>,
    operation: Option<uuid::Uuid>,
}

// === impl Events ===

impl Events {
    /// Reads through `reader`; streams end when `stop` is requested.
    #[must_use]
    pub fn new(reader: Reader, stop: Stop) -> Self {
        Self { reader, stop }
    }
}

/// Events as they happen.
type Watched = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream = Watched;

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let (size, filter) = (page_size(request.page_size)? as usize, Filter::read(request.filter)?);
        let mut after = cursor(&request.page_token)?.unwrap_or_default();
        let mut events = Vec::new();
        for _ in 0..READS_PER_PAGE {
            let read = self.reader.events(&tenant, after, READ_AT_ONCE).await.map_err(store_refusal)?;
            let is_last = read.len() < READ_AT_ONCE as usize;
            for event in read {
                if events.len() == size {
                    return Ok(page(events, Some(after)));
                }
                after = event.cursor;
                events.extend(filter.wants(&event).then(|| wire(event)));
            }
            if is_last {
                return Ok(page(events, None));
            }
        }
        Ok(page(events, Some(after)))
    }

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let filter = Filter::read(request.filter)?;
        let after = match cursor(&request.cursor)? {
            Some(cursor) => cursor,
            None => self.reader.end_of_events().await.map_err(store_refusal)?,
        };
        Ok(Response::new(Box::pin(watched(self.reader.clone(), self.stop.clone(), tenant, after, filter))))
    }
}

/// The events behind a cursor, then each that follows, until the replica stops.
fn watched(
    reader: Reader,
    stop: Stop,
    tenant: TenantId,
    after: OutboxCursor,
    filter: Filter,
) -> impl Stream<Item = Result<WatchEventsResponse, Status>> + Send {
    struct State {
        reader: Reader,
        stop: Stop,
        tenant: TenantId,
        after: OutboxCursor,
        filter: Filter,
        read: VecDeque<OutboxEvent>,
    }
    // Asked for before the first look: what is written after the look gives a hint.
    let hints = reader.changes();
    let state = State { reader, stop, tenant, after, filter, read: VecDeque::new() };
    stream::unfold(Some((state, hints)), |state| async move {
        let (mut state, mut hints) = state?;
        loop {
            while let Some(event) = state.read.pop_front() {
                state.after = event.cursor;
                if state.filter.wants(&event) {
                    let answer = WatchEventsResponse { event: Some(wire(event)) };
                    return Some((Ok(answer), Some((state, hints))));
                }
            }
            let read = tokio::select! {
                read = state.reader.events(&state.tenant, state.after, READ_AT_ONCE) => read,
                () = state.stop.requested() => {
                    let stopping = Refusal::new(Reason::Stopping, "this replica is stopping; come again with the last cursor");
                    return Some((Err(stopping.into()), None));
                }
            };
            match read {
                Err(error) => return Some((Err(store_refusal(error).into()), None)),
                Ok(events) if events.is_empty() => {
                    tokio::select! {
                        () = hints.changed() => {}
                        () = state.stop.requested() => {}
                    }
                }
                Ok(events) => state.read = events.into(),
            }
        }
    })
}

fn page(events: Vec<Event>, next: Option<OutboxCursor>) -> Response<ListEventsResponse> {
    Response::new(ListEventsResponse { events, next_page_token: next.map(token).unwrap_or_default() })
}

fn wire(event: OutboxEvent) -> Event {
    Event {
        id: event.cursor.sequence.to_string(),
        r#type: event.topic,
        subject: event.subject,
        operation_id: event.operation_id.to_string(),
        time: Some(dalp_proto::timestamp(event.at)),
        data_json: event.body.to_string(),
        cursor: token(event.cursor),
    }
}

/// A place in the events, as it is told.
pub(crate) fn token(cursor: OutboxCursor) -> String {
    format!("{:x}-{:x}", cursor.xid, cursor.sequence)
}

/// Reads what [`token`] wrote, and nothing else.
pub(crate) fn cursor(text: &str) -> RefusalResult<Option<OutboxCursor>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parts = text.split_once('-').and_then(|(xid, sequence)| {
        Some((u64::from_str_radix(xid, 16).ok()?, i64::from_str_radix(sequence, 16).ok()?))
    });
    let cursor = parts.map(|(xid, sequence)| OutboxCursor { xid, sequence });
    let cursor = cursor.filter(|cursor| cursor.sequence >= 0 && token(*cursor) == text);
    cursor.map(Some).ok_or_else(foreign_page_token)
}

/// Types of events that are asked for, at `path`.
pub(crate) fn check_types(path: &str, types: &[String]) -> RefusalResult<()> {
    if types.len() > MAX_TYPES {
        return Err(invalid(fields::violation(path, format!("at most {MAX_TYPES} types"))));
    }
    for (index, one) in types.iter().enumerate() {
        fields::bounded_string(&format!("{path}[{index}]"), one, 1, MAX_TYPE_CHARACTERS).map_err(invalid)?;
    }
    Ok(())
}

// === impl Filter ===

impl Filter {
    fn read(filter: Option<EventFilter>) -> RefusalResult<Self> {
        let Some(EventFilter { types, operation_id }) = filter else { return Ok(Self::default()) };
        check_types("filter.types", &types)?;
        let operation = match operation_id.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                invalid(fields::violation("filter.operation_id", "not an operation id: expected a UUID"))
            })?),
        };
        Ok(Self { types, operation })
    }

    fn wants(&self, event: &OutboxEvent) -> bool {
        (self.types.is_empty() || self.types.contains(&event.topic))
            && self.operation.is_none_or(|operation| operation == event.operation_id.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cursors_are_our_own() {
        assert_eq!(cursor("").unwrap(), None);
        for text in [
            "x",
            "1",
            "1-",
            "-1",
            "1--1",
            "01-1",
            "1-1-1",
            "FF-1",
            "+1-1",
            "1-8000000000000000",
            "ffffffffffffffffff-1",
        ] {
            assert_eq!(cursor(text).unwrap_err().reason(), Reason::PageTokenInvalid, "{text}");
        }
    }

    #[test]
    fn filters_are_read_or_refused_by_field() {
        let read = |types: &[&str], operation: &str| {
            let types = types.iter().map(|&one| one.to_owned()).collect();
            Filter::read(Some(EventFilter { types, operation_id: operation.to_owned() }))
        };
        assert_eq!(read(&["a"], "").unwrap(), Filter { types: vec!["a".to_owned()], operation: None });
        assert_eq!(read(&["a", ""], "").unwrap_err().violations()[0].0, "filter.types[1]");
        assert_eq!(read(&["a"; 21], "").unwrap_err().violations()[0].0, "filter.types");
        assert_eq!(read(&[], "x").unwrap_err().violations()[0].0, "filter.operation_id");
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(xid in any::<u64>(), sequence in 0..=i64::MAX) {
            let written = OutboxCursor { xid, sequence };
            prop_assert_eq!(cursor(&token(written)).unwrap(), Some(written));
        }

        #[test]
        fn no_cursor_panics(text in "[0-9a-f+-]{0,40}") {
            let _answered = cursor(&text);
        }
    }
}
