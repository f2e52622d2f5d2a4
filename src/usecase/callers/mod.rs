//! Who calls, what they may call, and for whom they may speak.
//!
//! INVARIANT (bound-or-refused): a call is served for a binding that grants its method, and a request is decided for one that grants the
//! method and the principal both. What no binding grants is refused.
//!
//! Never: how a credential is checked; that is for `identity` to say.

mod binding;
mod delegation;
mod everybody;
mod identity;
mod method;
mod pattern;

pub use binding::{Binding, BindingLimits, CallerFacts, Who};
pub use delegation::{Delegation, MisusedDelegation};
pub use everybody::Everybody;
pub use identity::Identity;
pub use method::{METHODS, Method, MethodSet, NoSuchMethod};
pub use pattern::{BadPattern, PrincipalPattern, TextPattern};
