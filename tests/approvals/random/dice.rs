//! Reproducible chance.

use fastrand::Rng;

/// A source of chance; the same seed always gives the same choices.
pub(crate) struct Dice(Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// A number from 0 to `count` - 1.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0.usize(0..count)
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Which of the weighted choices it is, by its place.
    pub(crate) fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (place, weight) in weights.iter().enumerate() {
            if left < *weight {
                return place;
            }
            left -= weight;
        }
        weights.len() - 1
    }

    /// Some of `items`, in their order.
    pub(crate) fn some<T: Clone>(&mut self, items: &[T], percent: usize) -> Vec<T> {
        let mut some: Vec<T> = items.to_vec();
        some.retain(|_| self.percent(percent));
        some
    }
}
