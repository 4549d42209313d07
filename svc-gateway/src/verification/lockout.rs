//! For how long nothing is taken from a person after wrong ones: nothing at first, then twice as long each time, at last for good.

use time::Duration;

use super::config::VerificationConfig;

/// The rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockout {
    free: u32,
    first_s: u64,
    longest_s: u64,
    most: u32,
}

// === impl Lockout ===

impl Lockout {
    /// As configured.
    #[must_use]
    pub fn new(config: &VerificationConfig) -> Self {
        Self {
            free: config.free_failures,
            first_s: config.lockout_s,
            longest_s: config.lockout_most_s,
            most: config.failures_most,
        }
    }

    /// How long nothing is taken after the `failures`-th wrong one in a row; zero: not at all.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.free + 1) else { return Duration::ZERO };
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let seconds = self.first_s.saturating_mul(factor).min(self.longest_s);
        Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    /// So many wrong ones lock for good.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most
    }

    /// [`after`](Self::after) for the first, the second, and so on up to the last, in seconds: for the statement that counts.
    #[must_use]
    pub fn table_s(&self) -> Vec<i64> {
        (1..=self.most).map(|failures| self.after(failures).whole_seconds()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_free_then_it_doubles_up_to_the_longest() {
        let lockout = Lockout::new(&VerificationConfig { lockout_most_s: 3_600, ..VerificationConfig::default() });
        let seconds = |failures| lockout.after(failures).whole_seconds();
        assert_eq!((0..=4).map(seconds).collect::<Vec<_>>(), [0; 5]);
        assert_eq!((5..=11).map(seconds).collect::<Vec<_>>(), [60, 120, 240, 480, 960, 1_920, 3_600]);
        assert_eq!(seconds(u32::MAX), 3_600, "no overflow brings it back");
        assert_eq!(lockout.table_s().len(), 50);
        assert_eq!(lockout.table_s()[4], 60);
    }

    /// What somebody who never stops reaches within a year, who has the person's session as well.
    #[test]
    fn guessing_is_hopeless() {
        let config = VerificationConfig::default();
        let lockout = Lockout::new(&config);
        let tries = f64::from(lockout.most());
        // Three of a million one-time passwords are right at any moment.
        assert!(tries * 3e-6 < 2e-4);
        let whole: i64 = lockout.table_s().iter().sum();
        assert!(whole > 30 * 86_400, "{whole}");
    }
}
