//! Whether votes fill the seats: a matching of persons to seats in which one person fills one seat.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Seat;

/// How many persons each seat takes.
pub type Seats = BTreeMap<Seat, u32>;

/// How far persons fill the seats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filling {
    /// The seat of each person, in the order given; none for one who fills no seat.
    pub seated: Vec<Option<Seat>>,
    /// What is missing of each seat that is not full.
    pub missing: Seats,
}

impl Filling {
    /// Whether every seat is full.
    pub fn is_full(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Seats as many persons as possible. Each of `persons` is one person, and says which seats that person may take.
///
/// The matching is a largest one (augmenting paths), so whom it seats does not depend on the order in which they came.
pub fn fill(seats: &Seats, persons: &[&BTreeSet<Seat>]) -> Filling {
    let mut seated: Vec<Option<&Seat>> = vec![None; persons.len()];
    for person in 0..persons.len() {
        let mut tried = BTreeSet::new();
        seat(person, seats, persons, &mut seated, &mut tried);
    }
    let mut missing = seats.clone();
    for taken in seated.iter().flatten() {
        if let Some(left) = missing.get_mut(*taken) {
            *left = left.saturating_sub(1);
        }
    }
    missing.retain(|_, left| *left > 0);
    Filling {
        seated: seated.into_iter().map(Option::<&Seat>::cloned).collect(),
        missing,
    }
}

/// Finds a seat for `person`, moving others to further seats of theirs where that makes room. Each seat is tried once.
fn seat<'s>(
    person: usize,
    seats: &Seats,
    persons: &[&'s BTreeSet<Seat>],
    seated: &mut Vec<Option<&'s Seat>>,
    tried: &mut BTreeSet<&'s Seat>,
) -> bool {
    let Some(wanted) = persons.get(person) else {
        return false;
    };
    for wish in *wanted {
        let Some(size) = seats.get(wish) else {
            continue;
        };
        if !tried.insert(wish) {
            continue;
        }
        let sitting: Vec<usize> = (0..seated.len())
            .filter(|at| seated.get(*at).copied().flatten() == Some(wish))
            .collect();
        let has_room = u32::try_from(sitting.len()).is_ok_and(|taken| taken < *size);
        let makes_room = has_room
            || sitting
                .into_iter()
                .any(|other| seat(other, seats, persons, seated, tried));
        if makes_room {
            if let Some(place) = seated.get_mut(person) {
                *place = Some(wish);
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(slot: &str) -> Seat {
        Seat {
            rule: "r".to_owned(),
            slot: slot.to_owned(),
        }
    }

    fn seats(sizes: &[(&str, u32)]) -> Seats {
        sizes
            .iter()
            .map(|(slot, size)| (named(slot), *size))
            .collect()
    }

    fn may(slots: &[&str]) -> BTreeSet<Seat> {
        slots.iter().map(|slot| named(slot)).collect()
    }

    #[test]
    fn one_person_in_two_groups_fills_one_seat() {
        let both = may(&["g1", "g2"]);
        let filling = fill(&seats(&[("g1", 1), ("g2", 1)]), &[&both]);
        assert_eq!(filling.missing.len(), 1);
    }

    #[test]
    fn the_order_of_votes_does_not_matter() {
        let (both, one) = (may(&["g1", "g2"]), may(&["g1"]));
        let wanted = seats(&[("g1", 1), ("g2", 1)]);
        assert!(fill(&wanted, &[&both, &one]).is_full());
        assert!(fill(&wanted, &[&one, &both]).is_full());
    }

    #[test]
    fn more_than_enough_is_enough() {
        let one = may(&["g1"]);
        assert!(fill(&seats(&[("g1", 2)]), &[&one, &one, &one]).is_full());
    }

    #[test]
    fn a_seat_that_does_not_exist_counts_for_nothing() {
        let other = may(&["x"]);
        assert_eq!(
            fill(&seats(&[("g1", 1)]), &[&other]).missing,
            seats(&[("g1", 1)])
        );
    }

    /// Tries every way of seating: exponential, for small cases only.
    fn most(seats: &Seats, persons: &[BTreeSet<Seat>]) -> u32 {
        let Some((first, rest)) = persons.split_first() else {
            return 0;
        };
        let mut best = most(seats, rest);
        for wish in first {
            if seats.get(wish).is_some_and(|left| *left > 0) {
                let mut left = seats.clone();
                let place = left.get_mut(wish).unwrap();
                *place = place.saturating_sub(1);
                best = best.max(most(&left, rest).saturating_add(1));
            }
        }
        best
    }

    proptest! {
        #[test]
        fn as_many_sit_as_can(
            sizes in proptest::collection::vec(0_u32..3, 1..4),
            wishes in proptest::collection::vec(proptest::collection::btree_set(0_usize..4, 0..4), 0..6),
        ) {
            let name = |slot: usize| named(&slot.to_string());
            let seats: Seats = sizes.iter().enumerate().map(|(slot, size)| (name(slot), *size)).collect();
            let persons: Vec<BTreeSet<Seat>> =
                wishes.iter().map(|slots| slots.iter().map(|slot| name(*slot)).collect()).collect();
            let filling = fill(&seats, &persons.iter().collect::<Vec<_>>());
            let sitting = filling.seated.iter().flatten().count();
            prop_assert_eq!(u32::try_from(sitting).unwrap(), most(&seats, &persons));
            for (taken, wanted) in filling.seated.iter().zip(&persons) {
                prop_assert!(taken.as_ref().is_none_or(|seat| wanted.contains(seat)));
            }
            let all: u32 = sizes.iter().sum();
            prop_assert_eq!(filling.missing.values().sum::<u32>(), all.saturating_sub(u32::try_from(sitting).unwrap()));
        }
    }
}
