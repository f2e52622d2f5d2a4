//! Random policy sets, stores and requests, all from one seed.
//!
//! A world is a small schema with a store of entities; ids, names and values come from short lists, so that policies and requests
//! meet. A wild world has no schema, or does not check its policies against it: there policies go wrong in every way Cedar knows.

mod conditions;
mod dice;
mod policies;
mod requests;
mod schema;
mod store;
mod values;

pub(crate) use dice::Dice;
pub(crate) use policies::{Kind, PolicySpec, RULES, random_policies};
pub(crate) use requests::{needs_clock, random_request, vary};
pub(crate) use schema::{IDS, NEW_ID, Schema};
pub(crate) use store::{StoredEntity, random_entity, random_store};
pub(crate) use values::{any_value, reference, to_json};
