//! How long nothing could be read.

use std::time::{Duration, Instant};

/// When reads of one kind were answered, in order.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<Instant>);

// === impl Answers ===

impl Answers {
    pub(super) fn note(&mut self, at: Instant) {
        self.0.push(at);
    }

    /// The longest time within a window in which none was answered.
    pub(super) fn away(&self, from: Instant, until: Instant) -> Duration {
        let inside = self.0.iter().copied().filter(|at| (from..=until).contains(at));
        let (longest, last) = inside.fold((Duration::ZERO, from), |(longest, last), at| (longest.max(at - last), at));
        longest.max(until.saturating_duration_since(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_counts_also_at_the_edges_of_the_window() {
        let begun = Instant::now();
        let at = |s: u64| begun + Duration::from_secs(s);
        let mut answers = Answers::default();
        assert_eq!(answers.away(at(0), at(9)), Duration::from_secs(9), "never answered");
        for second in [1, 2, 6, 7, 30] {
            answers.note(at(second));
        }
        assert_eq!(answers.away(at(0), at(8)), Duration::from_secs(4));
        assert_eq!(answers.away(at(6), at(20)), Duration::from_secs(13), "not answered again within the window");
        assert_eq!(answers.away(at(0), at(2)), Duration::from_secs(1));
    }
}
