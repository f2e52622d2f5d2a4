//! Random calls, drops and turns against what must always hold.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn caller(number: u64) -> CallerKey {
    CallerKey::new(number)
}

fn attended(settings: FairSettings) -> Turns {
    let mut turns = Turns::new(settings);
    turns.attend();
    turns
}

fn settings() -> FairSettings {
    FairSettings {
        quantum: 4,
        max_waiting_per_caller: 12,
        max_waiting: 30,
        standing_after: Duration::from_millis(50),
        ..FairSettings::default()
    }
}

/// What a test does.
#[derive(Clone, Debug)]
enum Event {
    Call {
        caller: u64,
        deadline_ms: Option<u64>,
    },
    /// The client of one of the calls that wait goes away.
    Leave(prop::sample::Index),
    Pass {
        ms: u64,
    },
    EndTurn,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let call = (0..4_u64, prop::option::of(0..200_u64));
    let event = prop_oneof![
        12 => call.prop_map(|(caller, deadline_ms)| Event::Call { caller, deadline_ms }),
        1 => any::<prop::sample::Index>().prop_map(Event::Leave),
        2 => (0..60_u64).prop_map(|ms| Event::Pass { ms }),
        1 => Just(Event::EndTurn),
    ];
    prop::collection::vec(event, 0..400)
}

/// A call that waits, as the test knows it.
struct Waiting {
    place: Place,
    since: Instant,
    deadline: Option<Instant>,
    woken: Arc<Woken>,
}

struct Model {
    turns: Turns,
    now: Instant,
    waiting: Vec<Waiting>,
    tickets: HashSet<u64>,
    /// The last ticket of each caller that passed.
    passed: HashMap<CallerKey, u64>,
}

impl Model {
    fn new(settings: FairSettings) -> Self {
        Self {
            turns: attended(settings),
            now: Instant::now(),
            waiting: Vec::new(),
            tickets: HashSet::new(),
            passed: HashMap::new(),
        }
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Call {
                caller: number,
                deadline_ms,
            } => self.call(caller(number), deadline_ms),
            Event::Leave(ref index) => {
                if !self.waiting.is_empty() {
                    let gone = self.waiting.remove(index.index(self.waiting.len()));
                    self.turns.forget(gone.place);
                }
            }
            Event::Pass { ms } => self.now += Duration::from_millis(ms),
            Event::EndTurn => self.end_turn(),
        }
        self.check_counts();
    }

    fn call(&mut self, key: CallerKey, deadline_ms: Option<u64>) {
        let mine = self.waiting.iter().filter(|call| call.place.caller == key);
        let mine = mine.count();
        let is_full = mine >= self.turns.settings.max_waiting_per_caller
            || self.waiting.len() >= self.turns.settings.max_waiting;
        match self.turns.arrive(key) {
            Arrival::Passes => assert_eq!(mine, 0, "a call overtook one of its caller"),
            Arrival::IsTooMany => assert!(is_full),
            Arrival::MustWait => {
                assert!(!is_full);
                let deadline = deadline_ms.map(|ms| self.now + Duration::from_millis(ms));
                let woken = Arc::new(Woken::default());
                let waker = Waker::from(Arc::clone(&woken));
                let place = self.turns.park(key, deadline, self.now, waker);
                assert!(self.tickets.insert(place.ticket));
                self.waiting.push(Waiting {
                    place,
                    since: self.now,
                    deadline,
                    woken,
                });
            }
        }
    }

    fn end_turn(&mut self) {
        let mut wakers = Vec::new();
        let callers: BTreeSet<CallerKey> =
            self.waiting.iter().map(|call| call.place.caller).collect();
        let more = self.turns.end_turn(self.now, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        let mut passed = 0;
        for call in std::mem::take(&mut self.waiting) {
            let is_woken = call.woken.0.load(Ordering::Relaxed) > 0;
            let waker = Waker::from(Arc::clone(&call.woken));
            match self.turns.outcome(call.place, &waker) {
                Poll::Pending => {
                    assert!(!is_woken);
                    self.waiting.push(call);
                }
                Poll::Ready(outcome) => {
                    assert!(is_woken, "decided, and not told");
                    passed += u32::from(outcome.is_ok());
                    self.check_outcome(&call, outcome, callers.len());
                }
            }
        }
        assert!(passed <= 2 * self.turns.settings.quantum);
        assert_eq!(more, !self.waiting.is_empty());
        assert!(self.turns.released.is_empty(), "decided about nobody");
    }

    fn check_outcome(&mut self, call: &Waiting, outcome: Result<Pass, TurnedAway>, callers: usize) {
        let waited = self.now - call.since;
        let is_late = call.deadline.is_some_and(|deadline| deadline <= self.now);
        match outcome {
            Ok(pass) => {
                assert_eq!(pass.waited, waited);
                assert!(!is_late);
                let before = self.passed.insert(call.place.caller, call.place.ticket);
                if self.turns.settings.standing_after == Duration::MAX {
                    assert!(before < Some(call.place.ticket), "out of order");
                }
            }
            Err(TurnedAway::DeadlinePassed) => assert!(is_late),
            Err(TurnedAway::WaitedTooLong) => {
                assert!(waited > self.turns.settings.max_wait);
                assert!(callers > 1, "for whose sake?");
            }
            Err(TurnedAway::TooManyWaiting) => panic!("it had been let in"),
        }
    }

    fn check_counts(&mut self) {
        assert_eq!(self.turns.waiting(), self.waiting.len());
        assert!(self.turns.waiting() <= self.turns.settings.max_waiting);
        for (key, seen) in &self.turns.callers {
            let mine = |call: &&Waiting| call.place.caller == *key;
            assert_eq!(seen.waiting, self.waiting.iter().filter(mine).count());
            assert!(seen.waiting <= self.turns.settings.max_waiting_per_caller);
        }
        assert!(
            self.waiting.is_empty() || self.turns.is_end_asked_for || self.turns.is_end_awaited,
            "calls wait for the end of a turn that nobody ends"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn no_call_is_lost_or_passes_twice_or_late(events in events(), keeps_order: bool) {
        let mut settings = settings();
        if keeps_order {
            settings.standing_after = Duration::MAX;
        }
        let mut model = Model::new(settings);
        for event in events {
            model.apply(&event);
        }
        for _ in 0..30 {
            model.apply(&Event::EndTurn);
        }
        prop_assert!(model.waiting.is_empty(), "somebody waits for ever");
        prop_assert!(model.turns.parked.is_empty());
    }

    #[test]
    fn calls_of_saturating_callers_have_shares_within_a_factor_of_two(
        first in 16_usize..1_500,
        second in 16_usize..1_500,
        begins: bool,
    ) {
        let settings = FairSettings {
            max_waiting_per_caller: 4_000,
            ..FairSettings::default()
        };
        let mut turns = attended(settings);
        let mut done = [0, 0];
        let mut open = [0, 0];
        let wanted = [first, second];
        let now = Instant::now();
        let mut places = Vec::new();
        for turn in 0..60 {
            let order = if begins ^ (turn % 3 == 0) { [0, 1] } else { [1, 0] };
            for at in order {
                let mut passed = 0;
                while open[at] < wanted[at] {
                    let key = caller(at as u64);
                    match turns.arrive(key) {
                        Arrival::Passes => passed += 1,
                        Arrival::MustWait => {
                            places.push((at, turns.park(key, None, now, Waker::noop().clone())));
                        }
                        Arrival::IsTooMany => panic!("as many may wait"),
                    }
                    open[at] += 1;
                }
                open[at] -= passed;
                // The first of all passes more: nobody else had been seen.
                done[at] += passed.min(settings.quantum as usize);
            }
            turns.end_turn(now, &mut Vec::new());
            places.retain(|(at, place)| {
                let is_done = turns.outcome(*place, Waker::noop()).is_ready();
                if is_done {
                    open[*at] -= 1;
                    done[*at] += 1;
                }
                !is_done
            });
        }
        let (less, more) = (done[0].min(done[1]), done[0].max(done[1]));
        prop_assert!(more <= 2 * less + 64, "{done:?}");
    }
}

/// Two callers, the first with `waiting` calls parked at `now`.
fn crowded(settings: FairSettings, waiting: usize, now: Instant) -> (Turns, Vec<Place>) {
    let mut turns = attended(settings);
    assert_eq!(turns.arrive(caller(2)), Arrival::Passes);
    for _ in 0..settings.quantum {
        assert_eq!(turns.arrive(caller(1)), Arrival::Passes);
    }
    let park = |_| {
        assert_eq!(turns.arrive(caller(1)), Arrival::MustWait);
        turns.park(caller(1), None, now, Waker::noop().clone())
    };
    let places = (0..waiting).map(park).collect();
    (turns, places)
}

#[test]
fn a_sole_caller_passes_whatever_it_does() {
    let mut turns = attended(settings());
    for _ in 0..10_000 {
        assert_eq!(turns.arrive(caller(1)), Arrival::Passes);
    }
    assert!(!turns.asks_for_end());
}

#[test]
fn who_is_left_alone_passes_again_without_being_counted() {
    let now = Instant::now();
    let (mut turns, _) = crowded(settings(), 0, now);
    assert_eq!(turns.sole(), None);
    turns.end_turn(now, &mut Vec::new());
    turns.end_turn(now + WINDOW, &mut Vec::new());
    assert_eq!(turns.arrive(caller(1)), Arrival::Passes);
    turns.end_turn(now + 2 * WINDOW, &mut Vec::new());
    assert_eq!(turns.sole(), Some(caller(1)));
}

#[test]
fn the_turn_is_asked_to_end_before_anybody_must_wait() {
    let mut turns = attended(settings());
    turns.arrive(caller(1));
    turns.arrive(caller(2));
    assert!(!turns.asks_for_end());
    turns.arrive(caller(2));
    assert!(turns.asks_for_end());
    assert!(!turns.asks_for_end(), "once is enough");
}

#[test]
fn a_standing_queue_is_served_from_its_end() {
    let now = Instant::now();
    let (mut turns, places) = crowded(settings(), 10, now);
    let later = now + Duration::from_millis(60);
    for _ in 0..20 {
        turns.park(caller(2), None, later, Waker::noop().clone());
    }
    turns.end_turn(later, &mut Vec::new());
    assert!(turns.outcome(places[9], Waker::noop()).is_ready());
    assert!(turns.outcome(places[0], Waker::noop()).is_pending());
}

#[test]
fn calls_that_waited_in_vain_do_not_hold_up_the_others() {
    let now = Instant::now();
    let (mut turns, places) = crowded(settings(), 10, now);
    let later = now + Duration::from_millis(110);
    let fresh = turns.park(caller(1), None, later, Waker::noop().clone());
    turns.park(caller(2), None, later, Waker::noop().clone());
    turns.end_turn(later, &mut Vec::new());
    let outcome = |turns: &mut Turns, place| turns.outcome(place, Waker::noop());
    assert_eq!(
        outcome(&mut turns, places[0]),
        Poll::Ready(Err(TurnedAway::WaitedTooLong))
    );
    assert!(matches!(
        outcome(&mut turns, fresh),
        Poll::Ready(Ok(Pass { .. }))
    ));
}

#[test]
fn where_nobody_else_waits_calls_may_wait_as_long_as_they_like() {
    let now = Instant::now();
    let (mut turns, places) = crowded(settings(), 10, now);
    turns.end_turn(now + Duration::from_secs(5), &mut Vec::new());
    let outcome = |place: &Place| turns.outcome(*place, Waker::noop());
    let outcomes: Vec<_> = places.iter().map(outcome).collect();
    assert!(matches!(outcomes[0], Poll::Ready(Ok(_))), "{outcomes:?}");
    let is_refused =
        |outcome: &Poll<Result<Pass, TurnedAway>>| matches!(outcome, Poll::Ready(Err(_)));
    assert!(!outcomes.iter().any(is_refused), "{outcomes:?}");
}

#[test]
fn of_calls_that_take_long_fewer_pass_in_a_turn() {
    let now = Instant::now();
    let (mut turns, _) = crowded(settings(), 12, now);
    turns.charge(caller(1), 100);
    let mut waiting = turns.waiting();
    for _ in 0..3 {
        turns.end_turn(now, &mut Vec::new());
        assert_eq!(turns.waiting(), waiting - 1, "one call of a turn's worth");
        waiting -= 1;
        turns.charge(caller(1), 100);
    }
}

#[test]
fn a_caller_whose_calls_get_cheaper_is_soon_an_ordinary_one() {
    let now = Instant::now();
    let (mut turns, _) = crowded(settings(), 0, now);
    turns.charge(caller(1), 100);
    for _ in 0..30 {
        turns.end_turn(now, &mut Vec::new());
        assert_eq!(turns.arrive(caller(1)), Arrival::Passes);
    }
    turns.end_turn(now, &mut Vec::new());
    for _ in 0..settings().quantum {
        assert_eq!(turns.arrive(caller(1)), Arrival::Passes);
    }
    assert_eq!(turns.arrive(caller(1)), Arrival::MustWait);
}

#[test]
fn the_memory_of_callers_is_bounded() {
    let mut turns = attended(settings());
    for number in 0..3 * MAX_CALLERS as u64 {
        turns.arrive(caller(number));
    }
    assert!(turns.callers.len() <= MAX_CALLERS);
}
