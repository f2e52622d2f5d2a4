//! When to try again: the schedule that Standard Webhooks suggests.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
/// The wait in front of each attempt, in seconds.
const SCHEDULE_SECONDS: [u64; 10] = [
    0,
    5,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
];
/// By which part a wait may be shorter or longer, so that what failed together does not come back together.
const JITTER: f64 = 0.1;

/// How long to wait after `attempt` attempts failed; nothing before the first. None when it was the last: a dead letter, after
/// about three days.
///
/// `jitter` is a random number from 0 to 1, which makes the wait 10 % shorter to 10 % longer; any other counts as the nearest.
pub fn retry_delay(attempt: u32, jitter: f64) -> Option<Duration> {
    let seconds = SCHEDULE_SECONDS.get(usize::try_from(attempt).ok()?)?;
    let jitter = if jitter.is_nan() {
        0.5
    } else {
        jitter.clamp(0.0, 1.0)
    };
    let factor = (2.0 * jitter - 1.0).mul_add(JITTER, 1.0);
    Some(Duration::from_secs(*seconds).mul_f64(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_the_suggested_one() {
        let seconds: Vec<u64> = (0..)
            .map_while(|attempt| retry_delay(attempt, 0.5))
            .map(|delay| delay.as_secs())
            .collect();
        let expected = [
            0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400,
        ];
        assert_eq!(seconds, expected);
    }

    #[test]
    fn after_the_last_attempt_there_is_none() {
        assert_eq!(retry_delay(10, 0.5), None);
        assert_eq!(retry_delay(u32::MAX, 0.5), None);
    }

    #[test]
    fn jitter_moves_a_wait_by_a_tenth_at_most() {
        let secs = |jitter| retry_delay(2, jitter).unwrap().as_secs_f64();
        for (jitter, expected) in [
            (0.0, 270.0),
            (1.0, 330.0),
            (0.25, 285.0),
            (-7.0, 270.0),
            (f64::INFINITY, 330.0),
            (f64::NAN, 300.0),
        ] {
            assert!((secs(jitter) - expected).abs() < 1e-6, "{jitter}");
        }
    }
}
