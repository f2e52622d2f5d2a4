//! Whose call goes next: turns, in which every caller has a quantum of calls, and queues of the calls beyond it.
//!
//! A turn is what a core does between two looks at its sockets. While one caller is active there are no turns to share: its calls
//! pass. Once a second one calls, each passes [`FairSettings::quantum`] calls in a turn, the others park, and the end of the turn
//! releases some of them, one of each caller after another.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, RangeInclusive};
use std::task::{Poll, Waker};
use std::time::Duration;

use foldhash::fast::RandomState;
use thiserror::Error;
use tokio::time::Instant;

use super::CallerKey;

/// How long a caller counts as active after a call: who calls at least this often never finds a core full of another's calls.
const WINDOW: Duration = Duration::from_secs(1);
/// How many callers are remembered between turns; beyond that those with nothing waiting are forgotten, which costs them nothing.
const MAX_CALLERS: usize = 16_384;

/// How a core is shared.
#[derive(Clone, Copy, Debug)]
pub struct FairSettings {
    /// How many calls of one caller pass in a turn when several are active, one at least. A turn releases twice as many in all, so
    /// that a caller that is served from its queue has at most twice the share of one that is not.
    pub quantum: u32,
    /// How long a call may wait.
    pub max_wait: Duration,
    /// Once a caller's oldest call has waited this long, its newest are served first: they are the ones that can still be in time.
    /// As long as `max_wait`, or a short stall makes calls wait that would have been served.
    pub standing_after: Duration,
    /// How many calls of one caller may wait.
    pub max_waiting_per_caller: usize,
    /// How many calls may wait in all.
    pub max_waiting: usize,
}

impl Default for FairSettings {
    fn default() -> Self {
        Self {
            quantum: 8,
            max_wait: Duration::from_millis(100),
            standing_after: Duration::from_millis(100),
            max_waiting_per_caller: 1_024,
            max_waiting: 16_384,
        }
    }
}

/// A call may go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// How long it waited; nothing for one that passed at once.
    pub waited: Duration,
}

/// A call is not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TurnedAway {
    /// The caller has given up.
    #[error("the deadline passed while the call waited for its turn")]
    DeadlinePassed,
    /// The caller sends more than its share, and has for longer than a call may wait.
    #[error("the call waited too long for its turn")]
    WaitedTooLong,
    /// The caller, or all callers together, have as many calls waiting as may wait.
    #[error("too many calls wait for their turn")]
    TooManyWaiting,
}

/// What becomes of a call that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Passes,
    MustWait,
    IsTooMany,
}

/// A call that waits, or did: its caller and its number among all calls that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    caller: CallerKey,
    ticket: u64,
}

#[derive(Debug)]
struct Parked {
    since: Instant,
    deadline: Option<Instant>,
    waker: Waker,
}

/// Who has called lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// Nobody ends turns, so nobody may wait for the end of one.
    Unattended,
    Nobody,
    Sole(CallerKey),
    Several,
}

#[derive(Debug, Default)]
struct Caller {
    /// The last turn that it had a call in, and how many passed, by what they count as.
    turn: u64,
    used: u32,
    /// What its next call counts as, by what those before it took; 0 for an ordinary one.
    cost: u32,
    /// The last window that it had a call in.
    window: u64,
    waiting: usize,
}

impl Caller {
    /// Counts a call, and answers what it counts as. A caller whose calls are dear is believed to do better bit by bit.
    fn pass(&mut self) -> u32 {
        let cost = self.cost.max(1);
        self.used = self.used.saturating_add(cost);
        self.cost -= self.cost.div_ceil(8);
        cost
    }
}

/// What became of a call that waited.
enum Released {
    Passes { cost: u32 },
    TurnedAway,
}

#[derive(Debug)]
struct Window {
    number: u64,
    /// Known from the first turn that ends in it.
    began: Option<Instant>,
    callers: usize,
    latest: Option<CallerKey>,
}

/// The turns of one core.
#[derive(Debug)]
pub(super) struct Turns {
    settings: FairSettings,
    activity: Activity,
    turn: u64,
    window: Window,
    callers: HashMap<CallerKey, Caller, RandomState>,
    /// In the order of callers, and of arrival for each.
    parked: BTreeMap<Place, Parked>,
    /// What was decided of calls that have not yet heard of it.
    released: HashMap<u64, Result<Pass, TurnedAway>, RandomState>,
    next_ticket: u64,
    last_served: Option<CallerKey>,
    is_end_asked_for: bool,
    is_end_awaited: bool,
}

impl Turns {
    pub(super) fn new(settings: FairSettings) -> Self {
        Self {
            settings,
            activity: Activity::Unattended,
            turn: 1,
            window: Window {
                number: 1,
                began: None,
                callers: 0,
                latest: None,
            },
            callers: HashMap::default(),
            parked: BTreeMap::new(),
            released: HashMap::default(),
            next_ticket: 0,
            last_served: None,
            is_end_asked_for: false,
            is_end_awaited: false,
        }
    }

    /// From now on somebody ends the turns.
    pub(super) fn attend(&mut self) {
        if self.activity == Activity::Unattended {
            self.activity = Activity::Nobody;
            self.is_end_awaited = false;
        }
    }

    /// From now on nobody ends a turn: all that wait pass, and so does all that comes.
    pub(super) fn abandon(&mut self, wakers: &mut Vec<Waker>) {
        self.activity = Activity::Unattended;
        self.callers.clear();
        for (place, parked) in std::mem::take(&mut self.parked) {
            self.released.insert(place.ticket, Ok(Pass::default()));
            wakers.push(parked.waker);
        }
    }

    /// The only active caller, whose calls pass without being counted.
    pub(super) fn sole(&self) -> Option<CallerKey> {
        match self.activity {
            Activity::Sole(caller) => Some(caller),
            Activity::Unattended | Activity::Nobody | Activity::Several => None,
        }
    }

    /// The number of the turn.
    #[cfg(test)]
    pub(super) fn number(&self) -> u64 {
        self.turn
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.parked.len()
    }

    /// Whether the turn should end soon, and nobody has been told so.
    pub(super) fn asks_for_end(&mut self) -> bool {
        let asks = self.is_end_asked_for && !self.is_end_awaited;
        self.is_end_awaited |= asks;
        asks
    }

    /// Counts a call of `key`. One that must wait is to be parked.
    pub(super) fn arrive(&mut self, key: CallerKey) -> Arrival {
        match self.activity {
            Activity::Unattended => return Arrival::Passes,
            Activity::Nobody => {
                self.activity = Activity::Sole(key);
                return Arrival::Passes;
            }
            Activity::Sole(sole) if sole == key => return Arrival::Passes,
            Activity::Sole(_) => {
                self.activity = Activity::Several;
                self.open_window(None);
            }
            Activity::Several => {}
        }
        let quantum = self.settings.quantum;
        let max_waiting_per_caller = self.settings.max_waiting_per_caller;
        let is_full = self.parked.len() >= self.settings.max_waiting;
        let caller = self.seen(key);
        // A call never overtakes one of the same caller.
        if caller.waiting == 0 && caller.used < quantum {
            caller.pass();
            // Asked for early, because the end comes behind all that the core has still to do.
            let is_half_used = caller.used >= quantum / 2;
            self.is_end_asked_for |= is_half_used;
            return Arrival::Passes;
        }
        if is_full || caller.waiting >= max_waiting_per_caller {
            return Arrival::IsTooMany;
        }
        Arrival::MustWait
    }

    /// Notes that a call of `key` took as much as `calls` ordinary ones, so that its next ones count as many.
    pub(super) fn charge(&mut self, key: CallerKey, calls: u32) {
        if self.activity == Activity::Several {
            let caller = self.seen(key);
            caller.cost = caller.cost.max(calls);
        }
    }

    /// Lets a call wait that must.
    pub(super) fn park(
        &mut self,
        key: CallerKey,
        deadline: Option<Instant>,
        now: Instant,
        waker: Waker,
    ) -> Place {
        let place = Place {
            caller: key,
            ticket: self.next_ticket,
        };
        self.next_ticket += 1;
        let caller = self.seen(key);
        caller.waiting += 1;
        let parked = Parked {
            since: now,
            deadline,
            waker,
        };
        self.parked.insert(place, parked);
        self.is_end_asked_for = true;
        place
    }

    /// What was decided of a call that waits; if nothing yet, `waker` is called when something is.
    pub(super) fn outcome(
        &mut self,
        place: Place,
        waker: &Waker,
    ) -> Poll<Result<Pass, TurnedAway>> {
        if let Some(parked) = self.parked.get_mut(&place) {
            parked.waker.clone_from(waker);
            return Poll::Pending;
        }
        let outcome = self.released.remove(&place.ticket);
        Poll::Ready(outcome.unwrap_or_else(|| Ok(Pass::default())))
    }

    /// Forgets a call whose caller went away.
    pub(super) fn forget(&mut self, place: Place) {
        if self.unpark(place).is_none() {
            self.released.remove(&place.ticket);
        }
    }

    /// Ends the turn, and releases calls into the next. Adds the wakers of those to `wakers`; answers whether more wait.
    pub(super) fn end_turn(&mut self, now: Instant, wakers: &mut Vec<Waker>) -> bool {
        self.turn += 1;
        self.is_end_asked_for = false;
        let budget = self.settings.quantum.saturating_mul(2);
        let (mut passed, mut turned_away) = (0_u32, 0);
        // Turning away is work too, if less.
        while passed < budget && turned_away < budget {
            let Some(caller) = self.next_caller() else {
                break;
            };
            self.last_served = Some(caller);
            for place in [self.late(caller, now), self.next(caller, now)] {
                let outcome = place.and_then(|place| self.release(place, now, wakers));
                match outcome {
                    Some(Released::Passes { cost }) => passed = passed.saturating_add(cost),
                    Some(Released::TurnedAway) => turned_away += 1,
                    None => {}
                }
            }
        }
        self.end_window(now);
        let is_waiting = !self.parked.is_empty();
        // Who is told that more wait comes again unasked.
        self.is_end_awaited = is_waiting;
        is_waiting
    }

    /// The caller after the one served last, of those with calls that wait.
    fn next_caller(&self) -> Option<CallerKey> {
        let after_last = self.last_served.map(|caller| Place {
            caller,
            ticket: u64::MAX,
        });
        let after_last = after_last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.parked.range((after_last, Bound::Unbounded)).next();
        next.or_else(|| self.parked.first_key_value())
            .map(|(place, _)| place.caller)
    }

    /// The caller's oldest call, if it has waited in vain.
    fn late(&self, caller: CallerKey, now: Instant) -> Option<Place> {
        let (oldest, parked) = self.parked.range(queue(caller)).next()?;
        self.verdict(parked, now).is_err().then_some(*oldest)
    }

    /// The caller's call whose turn it is: the oldest, or the newest if that has waited for long.
    fn next(&self, caller: CallerKey, now: Instant) -> Option<Place> {
        let mut queue = self.parked.range(queue(caller));
        let (oldest, parked) = queue.next()?;
        let is_standing = now.duration_since(parked.since) > self.settings.standing_after
            && self.do_several_wait();
        let newest = queue.next_back().map(|(newest, _)| newest);
        let next = newest.filter(|_| is_standing).unwrap_or(oldest);
        Some(*next)
    }

    /// Decides about a call; none if that has been done.
    fn release(&mut self, place: Place, now: Instant, wakers: &mut Vec<Waker>) -> Option<Released> {
        let parked = self.unpark(place)?;
        let outcome = self.verdict(&parked, now);
        self.released.insert(place.ticket, outcome);
        wakers.push(parked.waker);
        Some(match outcome {
            Ok(_) => Released::Passes {
                cost: self.seen(place.caller).pass(),
            },
            Err(_) => Released::TurnedAway,
        })
    }

    fn verdict(&self, parked: &Parked, now: Instant) -> Result<Pass, TurnedAway> {
        let waited = now.duration_since(parked.since);
        if parked.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(TurnedAway::DeadlinePassed);
        }
        // Where nobody else waits, it is the machine that was slow, and nobody gains by turning calls away.
        if waited > self.settings.max_wait && self.do_several_wait() {
            return Err(TurnedAway::WaitedTooLong);
        }
        Ok(Pass { waited })
    }

    /// Whether calls of more than one caller wait.
    fn do_several_wait(&self) -> bool {
        let first = self.parked.first_key_value().map(|(place, _)| place.caller);
        let last = self.parked.last_key_value().map(|(place, _)| place.caller);
        first != last
    }

    fn unpark(&mut self, place: Place) -> Option<Parked> {
        let parked = self.parked.remove(&place)?;
        if let Some(caller) = self.callers.get_mut(&place.caller) {
            caller.waiting -= 1;
        }
        Some(parked)
    }

    /// What is known of a caller, as of this turn and window.
    fn seen(&mut self, key: CallerKey) -> &mut Caller {
        if self.callers.len() >= MAX_CALLERS && !self.callers.contains_key(&key) {
            self.callers.retain(|_, caller| caller.waiting > 0);
        }
        let caller = self.callers.entry(key).or_default();
        if caller.turn != self.turn {
            caller.turn = self.turn;
            caller.used = 0;
        }
        if caller.window != self.window.number {
            caller.window = self.window.number;
            self.window.callers += 1;
            self.window.latest = Some(key);
        }
        caller
    }

    fn open_window(&mut self, began: Option<Instant>) {
        self.window = Window {
            number: self.window.number + 1,
            began,
            callers: 0,
            latest: None,
        };
    }

    /// Finds out, once in a while, whether there is still more than one caller.
    fn end_window(&mut self, now: Instant) {
        if self.activity != Activity::Several {
            return;
        }
        let began = *self.window.began.get_or_insert(now);
        if now.duration_since(began) < WINDOW {
            return;
        }
        if self.window.callers <= 1 && self.parked.is_empty() {
            self.activity = self.window.latest.map_or(Activity::Nobody, Activity::Sole);
            self.callers.clear();
        } else {
            let number = self.window.number;
            self.callers
                .retain(|_, caller| caller.waiting > 0 || caller.window == number);
        }
        self.open_window(Some(now));
    }
}

/// Where the calls of `caller` that wait are.
fn queue(caller: CallerKey) -> RangeInclusive<Place> {
    let place = |ticket| Place { caller, ticket };
    place(0)..=place(u64::MAX)
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
