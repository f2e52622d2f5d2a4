//! The engine, from the outside: what it decides, what it refuses, and that stock Cedar agrees.

#[cfg(test)]
mod hazards;
#[cfg(test)]
mod semantics;
#[cfg(test)]
mod support;
