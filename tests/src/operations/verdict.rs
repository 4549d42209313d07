//! Counts what became of requests, by what the chain has.

use std::collections::HashMap;

use super::book::{Answer, End, Request};

/// Examples that are told of what is wrong.
const EXAMPLES: usize = 5;

/// What became of all requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Requests.
    pub asked: usize,
    /// Those that were accepted.
    pub accepted: usize,
    /// Those that were refused for good or not answered; nothing was promised.
    pub refused: usize,
    /// Accepted, and not completed with its transfer on chain.
    pub lost: usize,
    /// Transfers on chain beyond one for each request, those of refused ones too.
    pub duplicated: usize,
    /// Nonces that were bound and not used, and transactions that wait.
    pub gapped: usize,
    /// A few of what is wrong.
    pub examples: Vec<String>,
}

// === impl Verdict ===

impl Verdict {
    /// Of requests, each of which moves its number, counted from one, and of the amounts that were moved.
    pub(super) fn of(requests: &[Request], moved: &[u64], gapped: usize) -> Self {
        let mut times: HashMap<u64, usize> = HashMap::new();
        for amount in moved {
            *times.entry(*amount).or_default() += 1;
        }
        let mut verdict = Self { asked: requests.len(), gapped, ..Self::default() };
        for (number, request) in (1..).zip(requests) {
            let moved = times.remove(&number).unwrap_or_default();
            verdict.judge(number, request, moved);
        }
        for (amount, moved) in times {
            verdict.duplicated += moved;
            verdict.tell(format!("{amount} was moved {moved} times, and nobody asked for it"));
        }
        verdict
    }

    fn judge(&mut self, number: u64, request: &Request, moved: usize) {
        match &request.answer {
            Some(Answer::Accepted(id)) => {
                self.accepted += 1;
                let completed = matches!(request.ended, Some((End::Completed, _)));
                if !completed || moved == 0 {
                    self.lost += 1;
                    self.tell(format!("request {number} ({id}) is {:?} and was moved {moved} times", request.ended));
                }
                self.duplicated += moved.saturating_sub(1);
                if moved > 1 {
                    self.tell(format!("request {number} ({id}) was moved {moved} times"));
                }
            }
            Some(Answer::Refused(why)) => {
                self.refused += 1;
                self.duplicated += moved;
                self.tell(format!("request {number} was refused ({why}) and was moved {moved} times"));
            }
            None => {
                self.refused += 1;
                self.duplicated += moved;
                self.tell(format!("request {number} was never answered and was moved {moved} times"));
            }
        }
    }

    fn tell(&mut self, what: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use uuid::Uuid;

    use super::*;

    fn accepted(end: Option<End>) -> Request {
        let now = Instant::now();
        Request { due: now, answer: Some(Answer::Accepted(Uuid::nil())), ended: end.map(|end| (end, now)) }
    }

    fn refused() -> Request {
        Request { due: Instant::now(), answer: Some(Answer::Refused("OVERLOADED".to_owned())), ended: None }
    }

    fn counts(verdict: &Verdict) -> (usize, usize, usize, usize) {
        (verdict.accepted, verdict.refused, verdict.lost, verdict.duplicated)
    }

    #[test]
    fn each_once_is_neither_lost_nor_doubled() {
        let requests = [accepted(Some(End::Completed)), accepted(Some(End::Completed))];
        let verdict = Verdict::of(&requests, &[2, 1], 0);
        assert_eq!(counts(&verdict), (2, 0, 0, 0));
        assert!(verdict.examples.is_empty());
    }

    #[test]
    fn what_is_not_on_chain_or_not_completed_is_lost() {
        let failed = End::Otherwise("FAILED".to_owned());
        let requests = [accepted(Some(End::Completed)), accepted(Some(failed)), accepted(None)];
        assert_eq!(counts(&Verdict::of(&requests, &[2], 0)), (3, 0, 3, 0));
    }

    #[test]
    fn what_is_there_twice_or_was_not_to_be_is_doubled() {
        let requests = [accepted(Some(End::Completed)), refused(), refused()];
        let verdict = Verdict::of(&requests, &[1, 1, 2, 77], 3);
        assert_eq!(counts(&verdict), (1, 2, 0, 3), "one again, one refused, one of nobody");
        assert_eq!(verdict.gapped, 3);
        assert!(verdict.examples.len() >= 3, "{verdict:?}");
    }
}
