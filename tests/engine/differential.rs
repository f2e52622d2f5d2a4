//! The scope index, the slice of entities and the cache key against the whole policy set, the whole store and stock Cedar.

use std::collections::{BTreeMap, HashMap};

use countersign::model::{Decided, DenyReason, Outcome, Posture, Request};
use countersign::policy::Engine;
use jiff::Timestamp;

use crate::support::words;
use crate::trial::{Trial, shown};

/// The sets of one test.
const SETS: u64 = 130;
/// The requests for each set.
const REQUESTS: usize = 200;

/// What the trials came to.
#[derive(Debug, Default)]
struct Tally {
    pairs: usize,
    hits: usize,
    outcomes: BTreeMap<&'static str, usize>,
}

#[test]
fn engines_slices_and_keys_agree_with_stock_cedar_1() {
    run(1_000_000);
}

#[test]
fn engines_slices_and_keys_agree_with_stock_cedar_2() {
    run(2_000_000);
}

#[test]
fn engines_slices_and_keys_agree_with_stock_cedar_3() {
    run(3_000_000);
}

#[test]
fn engines_slices_and_keys_agree_with_stock_cedar_4() {
    run(4_000_000);
}

fn run(first_seed: u64) {
    let mut tally = Tally::default();
    for seed in first_seed..first_seed + SETS {
        run_set(seed, &mut tally);
    }
    println!("{tally:?}");
    assert!(
        tally.hits * 10 > tally.pairs,
        "too few cache hits to prove anything: {tally:?}"
    );
    for outcome in [
        "ALLOW",
        "FORBIDDEN",
        "NO_PERMIT",
        "POLICY_ERROR",
        "ENTITY_MISSING",
        "REQUIRE_APPROVAL",
    ] {
        let count = tally.outcomes.get(outcome).copied().unwrap_or(0);
        assert!(count * 100 > tally.pairs, "hardly any {outcome}: {tally:?}");
    }
}

/// A decision that the cache holds, and the request it was made for.
struct Kept {
    request: Request,
    decided: Decided,
}

fn run_set(seed: u64, tally: &mut Tally) {
    let mut trial = Trial::new(seed);
    let mut cache: HashMap<Vec<u8>, Kept> = HashMap::new();
    let mut base = trial.request();
    for number in 0..REQUESTS {
        let request = trial.vary(&base);
        if number % 8 == 0 {
            base = trial.request();
        }
        // A clock that never stands still.
        let now = Timestamp::from_second(i64::try_from(number).unwrap() * 1_000_000).unwrap();
        check(&trial, &request, now, &mut cache, tally);
    }
}

fn check(
    trial: &Trial,
    request: &Request,
    now: Timestamp,
    cache: &mut HashMap<Vec<u8>, Kept>,
    tally: &mut Tally,
) {
    let prepared = trial
        .snapshot
        .prepare(request.clone())
        .unwrap_or_else(|problem| panic!("{problem}\n{}", trial.reproduction(request)));
    let plan = trial
        .snapshot
        .plan(&prepared, now)
        .unwrap_or_else(|problem| panic!("{problem}\n{}", trial.reproduction(request)));
    let decided = plan.decide(Engine::Index);
    let full = plan.decide(Engine::Full);
    assert!(
        decided == full,
        "the index says {decided:#?}\nthe full evaluation says {full:#?}\n{}",
        trial.reproduction(request)
    );
    compare_with_stock(trial, request, now, &decided);
    tally.pairs += 1;
    *tally.outcomes.entry(name_of(&decided.outcome)).or_default() += 1;

    let mut key = Vec::new();
    prepared.write_key(&mut key);
    if !prepared.is_cacheable() {
        return;
    }
    match cache.get(&key) {
        Some(kept) => {
            assert!(
                kept.decided == decided,
                "two requests share a key, but one gets {:#?}\nand the other {decided:#?}\n{}\n----- the other request\n{}",
                kept.decided,
                trial.reproduction(&kept.request),
                shown(request)
            );
            tally.hits += usize::from(kept.request != *request);
        }
        None => {
            let request = request.clone();
            cache.insert(key, Kept { request, decided });
        }
    }
}

/// Stock Cedar sees the whole store; where we name missing entities, they must be missing.
fn compare_with_stock(trial: &Trial, request: &Request, now: Timestamp, decided: &Decided) {
    if let Outcome::Deny(DenyReason::EntityMissing(missing)) = &decided.outcome {
        assert_eq!(trial.posture, Posture::Strict);
        for uid in missing {
            let is_there = trial.store.iter().any(|stored| stored.uid == *uid)
                || request.entities.iter().any(|known| known.uid == *uid)
                || (trial.has_schema() && trial.schema.is_bare(&uid.type_name));
            assert!(
                !is_there,
                "{uid} is not missing\n{}",
                trial.reproduction(request)
            );
        }
        return;
    }
    let mut request = request.clone();
    let clock = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    trial.supply_clock(&mut request, &clock);
    let fail = |error: String| -> ! {
        panic!(
            "stock Cedar refuses: {error}\n{}",
            trial.reproduction(&request)
        )
    };
    let cedar = trial
        .stock
        .request(&request)
        .unwrap_or_else(|error| fail(error));
    let entities = trial
        .stock
        .entities(&request, &[])
        .unwrap_or_else(|error| fail(error));
    let sets = trial.stock.sets(&cedar, &entities);
    let expected = trial.stock.words(&sets, trial.posture);
    assert!(
        words(decided) == expected,
        "stock Cedar says {expected}\nwe say {decided:#?}\n{}",
        trial.reproduction(&request)
    );
}

fn name_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Allow => "ALLOW",
        Outcome::RequireApproval(_) => "REQUIRE_APPROVAL",
        Outcome::Deny(DenyReason::Forbidden) => "FORBIDDEN",
        Outcome::Deny(DenyReason::NoPermit) => "NO_PERMIT",
        Outcome::Deny(DenyReason::PolicyError) => "POLICY_ERROR",
        Outcome::Deny(DenyReason::EntityMissing(_)) => "ENTITY_MISSING",
    }
}
