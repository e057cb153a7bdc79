//! How long one waits for a registry, and how often one asks again. Pure, but for the random part of a pause.

use std::time::Duration;

/// More than this in Retry-After is a refusal.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// Nothing came, or next to nothing, for so long: the connection is given up.
    pub idle: Duration,
    /// Of one question, the first one included.
    pub attempts: u32,
    /// Before the second attempt; doubled for each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { idle: Duration::from_secs(30), attempts: 5, pause: Duration::from_millis(250) }
    }
}

impl Patience {
    /// Before the attempt of this number (from 2). None: not before a time that nobody waits for. Half of it is random, so that many who
    /// were refused together don't come back together.
    pub fn before(&self, attempt: u32, asked_for: Option<Duration>) -> Option<Duration> {
        if let Some(asked_for) = asked_for {
            return (asked_for <= RETRY_AFTER_MAX).then_some(asked_for);
        }
        let doubled = self.pause.saturating_mul(1 << attempt.saturating_sub(2).min(16)).min(PAUSE_MAX);
        Some(doubled / 2 + doubled.mul_f64(random() / 2.0))
    }
}

/// From 0 to 1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let patience = Patience::default();
        for attempt in 2..40 {
            let pause = patience.before(attempt, None).unwrap();
            assert!(pause >= patience.pause / 2 && pause <= PAUSE_MAX, "{attempt}: {pause:?}");
        }
        assert!(patience.before(6, None).unwrap() >= patience.pause * 8);
        assert_eq!(patience.before(2, Some(Duration::from_secs(3))), Some(Duration::from_secs(3)));
        assert_eq!(patience.before(2, Some(Duration::from_secs(3600))), None);
    }
}
