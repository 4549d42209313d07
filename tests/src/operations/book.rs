//! What was asked for, and what became of it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Completed.
    Completed,
    /// Anything else, with the platform's words.
    Otherwise(String),
}

/// One request. Its number, counted from one, is the amount that it moves, so that the chain alone tells what became of it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) due: Instant,
    pub(super) answer: Option<Answer>,
    pub(super) ended: Option<(End, Instant)>,
}

/// What the client was told.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Accepted as this operation.
    Accepted(Uuid),
    /// Refused for good, or not answered within the client's patience.
    Refused(String),
}

/// All requests, in order.
#[derive(Debug, Default)]
pub(super) struct Book {
    requests: Vec<Request>,
    open: HashMap<Uuid, usize>,
    ended: usize,
}

// === impl Book ===

impl Book {
    /// Notes that a request is due, and returns its number.
    pub(super) fn is_due(&mut self, due: Instant) -> u64 {
        self.requests.push(Request { due, answer: None, ended: None });
        self.requests.len() as u64
    }

    pub(super) fn answered(&mut self, number: u64, answer: Answer) {
        let Some(index) = usize::try_from(number).ok().and_then(|number| number.checked_sub(1)) else { return };
        if let Answer::Accepted(id) = answer {
            self.open.insert(id, index);
        }
        if let Some(request) = self.requests.get_mut(index) {
            request.answer = Some(answer);
        }
    }

    /// Notes how an operation ended.
    pub(super) fn ended(&mut self, id: Uuid, end: End, at: Instant) {
        if let Some(request) = self.open.remove(&id).and_then(|index| self.requests.get_mut(index)) {
            request.ended = Some((end, at));
            self.ended += 1;
        }
    }

    /// What was accepted, each with its number.
    pub(super) fn accepted(&self) -> Vec<(u64, Uuid)> {
        let accepted = (1..).zip(&self.requests).filter_map(|(number, request)| match request.answer {
            Some(Answer::Accepted(id)) => Some((number, id)),
            _ => None,
        });
        accepted.collect()
    }

    /// Notes that the caller has found on chain what it asked for, whatever the platform says of it.
    pub(super) fn found(&mut self, number: u64, at: Instant) {
        let Some(Answer::Accepted(id)) = self.request(number).and_then(|request| request.answer.clone()) else {
            return;
        };
        self.ended(id, End::Completed, at);
    }

    /// Notes that the caller asks again, since neither platform nor chain knows of it.
    pub(super) fn again(&mut self, number: u64) {
        let Some(request) = self.request(number) else { return };
        let (answer, ended) = (request.answer.take(), request.ended.take());
        if let Some(Answer::Accepted(id)) = answer {
            self.open.remove(&id);
        }
        self.ended -= usize::from(ended.is_some());
    }

    fn request(&mut self, number: u64) -> Option<&mut Request> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.requests.get_mut(index)
    }

    pub(super) fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Accepted operations that have not ended.
    pub(super) fn open(&self) -> Vec<Uuid> {
        self.open.keys().copied().collect()
    }

    /// How many have ended.
    pub(super) fn count_ended(&self) -> usize {
        self.ended
    }

    /// How many ended within a window.
    pub(super) fn ended_within(&self, from: Instant, until: Instant) -> usize {
        let ended = self.requests.iter().filter_map(|request| request.ended.as_ref());
        ended.filter(|(_, at)| (from..=until).contains(at)).count()
    }

    /// Whether everything due before then was refused or has ended.
    pub(super) fn is_settled(&self, before: Instant) -> bool {
        let settled = |request: &Request| request.ended.is_some() || matches!(request.answer, Some(Answer::Refused(_)));
        self.requests.iter().filter(|request| request.due < before).all(settled)
    }

    /// From `since` until everything due before it had ended; `None`: it never did.
    pub(super) fn recovery(&self, since: Instant) -> Option<Duration> {
        if !self.is_settled(since) {
            return None;
        }
        let before = self.requests.iter().filter(|request| request.due < since);
        let last = before.filter_map(|request| request.ended.as_ref()).map(|(_, at)| *at).max();
        Some(last.map_or(Duration::ZERO, |last| last.saturating_duration_since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_again_has_not_ended_until_it_has_as_something_else() {
        let (now, ids) = (Instant::now(), [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()]);
        let mut book = Book::default();
        for id in &ids[..2] {
            let number = book.is_due(now);
            book.answered(number, Answer::Accepted(*id));
        }
        book.ended(ids[0], End::Completed, now);
        book.found(2, now);
        assert_eq!((book.count_ended(), book.open().len()), (2, 0), "the chain has the second one");
        book.again(1);
        assert_eq!((book.count_ended(), book.accepted()), (1, vec![(2, ids[1])]));
        assert!(!book.is_settled(now + Duration::from_secs(1)));
        book.answered(1, Answer::Accepted(ids[2]));
        book.ended(ids[0], End::Completed, now);
        assert_eq!((book.count_ended(), book.open()), (1, vec![ids[2]]), "what it was before counts no more");
        book.ended(ids[2], End::Completed, now);
        assert!(book.is_settled(now + Duration::from_secs(1)));
    }

    #[test]
    fn recovery_lasts_until_the_last_request_of_before_has_ended() {
        let begun = Instant::now();
        let at = |s: u64| begun + Duration::from_secs(s);
        let mut book = Book::default();
        let ids: Vec<Uuid> = (0..3).map(|_| Uuid::new_v4()).collect();
        for (second, id) in (0..).zip(&ids) {
            let number = book.is_due(at(second));
            assert!(!book.is_settled(at(9)), "asked for and not answered");
            book.answered(number, Answer::Accepted(*id));
        }
        assert_eq!(book.recovery(at(2)), None, "nothing has ended");
        book.ended(ids[0], End::Completed, at(1));
        book.ended(ids[1], End::Completed, at(7));
        assert_eq!(book.recovery(at(2)), Some(Duration::from_secs(5)), "what came at the end itself does not count");
        assert_eq!(book.recovery(at(3)), None);
        book.ended(ids[2], End::Otherwise("FAILED".to_owned()), at(4));
        assert_eq!(book.recovery(at(8)), Some(Duration::ZERO), "over before the end of the fault");
        assert_eq!((book.count_ended(), book.open().len()), (3, 0));
        let number = book.is_due(at(9));
        book.answered(number, Answer::Refused("NOT_FOUND".to_owned()));
        assert!(book.is_settled(at(10)), "nothing more comes of what was refused");
    }
}
