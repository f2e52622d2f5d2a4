//! The engine, from the outside: what it decides, what it refuses, and that stock Cedar agrees.

#![expect(
    clippy::pedantic,
    clippy::complexity,
    clippy::wildcard_enum_match_arm,
    reason = "generators and tables read better so"
)]

#[cfg(test)]
mod closure;
#[cfg(test)]
mod consequences;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod eligibility;
#[cfg(test)]
mod extensions;
#[cfg(test)]
mod hazards;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hostile_files;
#[cfg(test)]
mod random;
#[cfg(test)]
mod semantics;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod stock;
#[cfg(test)]
mod support;
#[cfg(test)]
mod traps;
#[cfg(test)]
mod trial;
