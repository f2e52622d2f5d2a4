//! Times, as people read them.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::server::SystemClock;
use crate::usecase::ports::Clock as _;

/// A time on the wire: seconds and nanoseconds.
pub(in crate::cli) type Moment = (i64, i32);

/// What time it is here.
#[derive(Clone, Debug)]
pub(in crate::cli) struct WallClock {
    now: Timestamp,
    zone: TimeZone,
}

impl WallClock {
    /// The time now, in the system's time zone; in UTC where that is not known.
    pub(in crate::cli) fn here() -> Self {
        Self {
            now: SystemClock.now(),
            zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
        }
    }

    /// `2026-03-01 14:05:00 +01:00`; `unknown` for what is no time.
    pub(in crate::cli) fn absolute(&self, moment: Option<Moment>) -> String {
        self.show(moment, |_, absolute| absolute)
    }

    /// `2026-03-01 14:05:00 +01:00 (in 14 min)`.
    pub(in crate::cli) fn both(&self, moment: Option<Moment>) -> String {
        self.show(moment, |relative, absolute| {
            format!("{absolute} ({relative})")
        })
    }

    /// Both on a line of their own, the relative first.
    pub(in crate::cli) fn stacked(&self, moment: Option<Moment>) -> String {
        self.show(moment, |relative, absolute| {
            format!("{relative}\n{absolute}")
        })
    }

    fn show(&self, moment: Option<Moment>, form: impl Fn(String, String) -> String) -> String {
        let time = moment.and_then(|(seconds, nanos)| Timestamp::new(seconds, nanos).ok());
        time.map_or_else(
            || "unknown".to_owned(),
            |time| {
                let local = time.to_zoned(self.zone.clone());
                let absolute = local.strftime("%Y-%m-%d %H:%M:%S %:z").to_string();
                form(relative(time.duration_since(self.now)), absolute)
            },
        )
    }

    #[cfg(test)]
    pub(in crate::cli) fn at(now: &str) -> Self {
        Self {
            now: now.parse().unwrap(),
            zone: TimeZone::fixed(jiff::tz::offset(1)),
        }
    }
}

/// `in 14 min`, `3 h 5 min ago`: rounded down, so that what is left is never said to be more.
fn relative(distance: SignedDuration) -> String {
    let seconds = distance.unsigned_abs().as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let amount = match (minutes, hours, days) {
        (0, _, _) => format!("{seconds} s"),
        (_, 0, _) => format!("{minutes} min"),
        (_, 0..48, _) => format!("{hours} h {} min", minutes % 60),
        (_, _, _) => format!("{days} days"),
    };
    if distance.is_negative() {
        format!("{amount} ago")
    } else {
        format!("in {amount}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_never_said_to_be_longer_than_it_is() {
        for (seconds, said) in [
            (59, "in 59 s"),
            (899, "in 14 min"),
            (-60, "1 min ago"),
            (11_159, "in 3 h 5 min"),
            (172_799, "in 47 h 59 min"),
            (-172_800, "2 days ago"),
        ] {
            assert_eq!(relative(SignedDuration::from_secs(seconds)), said);
        }
    }

    #[test]
    fn a_time_is_local_and_says_its_offset() {
        let clock = WallClock::at("2026-03-01T13:00:00Z");
        let moment = Some((1_772_370_300, 0));
        assert_eq!(clock.both(moment), "2026-03-01 14:05:00 +01:00 (in 5 min)");
        assert_eq!(clock.both(None), "unknown");
    }
}
