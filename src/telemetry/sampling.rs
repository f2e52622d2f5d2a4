//! Which calls are traced.

use crate::model::TraceContext;

/// Decides which calls are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Whether the caller decides for the calls that have a caller's span.
    pub follows_caller: bool,
    /// The share of the others, from 0 to 1.
    pub ratio: f64,
}

impl Sampler {
    /// Whether a call that was made from `caller` is traced.
    pub fn takes(self, caller: Option<TraceContext>) -> bool {
        match caller {
            Some(caller) if self.follows_caller => caller.is_sampled,
            Some(caller) => self.takes_trace(caller.trace_id),
            None => fastrand::f64() < self.ratio,
        }
    }

    /// By the id and not by chance, so that everybody with the same ratio takes the same traces.
    fn takes_trace(self, trace_id: [u8; 16]) -> bool {
        // The lower half of the id less its last bit, as the OpenTelemetry SDKs do it.
        let number = (u128::from_be_bytes(trace_id) << 64) >> 65;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share needs no 63 bits of precision"
        )]
        let share = number as f64 / (1_u64 << 63) as f64;
        share < self.ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(is_sampled: bool, last: u8) -> TraceContext {
        let mut trace_id = [1; 16];
        trace_id[8] = last;
        TraceContext {
            trace_id,
            span_id: [1; 8],
            is_sampled,
        }
    }

    #[test]
    fn a_caller_that_decided_is_followed() {
        for ratio in [0.0, 1.0] {
            let sampler = Sampler {
                follows_caller: true,
                ratio,
            };
            assert!(sampler.takes(Some(caller(true, 1))));
            assert!(!sampler.takes(Some(caller(false, 1))));
            assert_eq!(sampler.takes(None), ratio > 0.5);
        }
    }

    #[test]
    fn without_following_the_trace_decides() {
        let half = Sampler {
            follows_caller: false,
            ratio: 0.5,
        };
        assert!(half.takes(Some(caller(false, 0x7f))));
        assert!(!half.takes(Some(caller(true, 0x80))));
        let none = Sampler { ratio: 0.0, ..half };
        assert!(!none.takes(Some(caller(true, 0))));
        let all = Sampler { ratio: 1.0, ..half };
        assert!(all.takes(Some(caller(false, 0xff))));
    }

    #[test]
    fn the_ratio_is_about_kept() {
        fastrand::seed(7);
        let sampler = Sampler {
            follows_caller: true,
            ratio: 0.25,
        };
        let taken = (0..10_000).filter(|_| sampler.takes(None)).count();
        assert!((2_300..2_700).contains(&taken), "{taken}");
    }
}
