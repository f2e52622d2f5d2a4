//! Who is counted as one.

/// What stands for a caller where its calls are counted: the same for all its connections.
///
/// Two callers with one key share their limits, so a key is a hash with a secret, or a number given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerKey(u64);

impl CallerKey {
    /// The caller that `key` stands for.
    pub const fn new(key: u64) -> Self {
        Self(key)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}
