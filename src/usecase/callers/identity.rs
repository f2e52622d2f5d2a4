//! Who makes a call.

use std::sync::Arc;

use jiff::Timestamp;

use crate::approval::Person;
use crate::model::EntityRef;

use super::binding::{Binding, BindingLimits, CallerFacts, Who};
use super::delegation::Delegation;
use super::method::Method;

/// Who makes a call, with what they may do.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The service, as it is recorded: a SPIFFE id, `unix:uid:1000`, or `ISSUER#SUBJECT` of a token. Empty if nobody said who calls.
    pub caller: String,
    /// The person who calls, if it is one. Nobody who acts for another is.
    pub person: Option<Person>,
    /// For whom the caller acts, where its token says so.
    pub delegation: Option<Delegation>,
    /// Its credential is good until then, if it ends.
    pub valid_until: Option<Timestamp>,
    /// Tells callers apart where calls are counted.
    pub key: u64,
    bindings: Vec<Arc<Binding>>,
}

impl Identity {
    /// The caller that `facts` tell of, with those of `bindings` that are for it.
    pub fn new(
        (caller, key): (String, u64),
        facts: CallerFacts<'_>,
        bindings: &[Arc<Binding>],
    ) -> Self {
        let own = bindings.iter().filter(|binding| binding.who.is(facts));
        Self {
            caller,
            person: None,
            delegation: None,
            valid_until: None,
            key,
            bindings: own.map(Arc::clone).collect(),
        }
    }

    /// The same caller, known to be this person.
    #[must_use]
    pub fn as_person(self, person: Option<Person>) -> Self {
        Self { person, ..self }
    }

    /// The same caller, acting for others.
    #[must_use]
    pub fn acting_for(self, delegation: Option<Delegation>) -> Self {
        Self { delegation, ..self }
    }

    /// The same caller, by a credential that is good until `end`.
    #[must_use]
    pub fn until(self, end: Timestamp) -> Self {
        Self {
            valid_until: Some(end),
            ..self
        }
    }

    /// Whether anything at all is granted to it.
    pub fn is_bound(&self) -> bool {
        !self.bindings.is_empty()
    }

    /// Whether it may call `method`.
    pub fn may_call(&self, method: Method) -> bool {
        self.bindings
            .iter()
            .any(|binding| binding.methods.has(method))
    }

    /// Whether it may ask by `method` what `principal` may do. Who acts by its own token speaks for itself.
    pub fn may_speak_for(&self, method: Method, principal: &EntityRef) -> bool {
        let acts_itself = self
            .delegation
            .as_ref()
            .is_some_and(|delegation| delegation.actor == *principal);
        self.bindings.iter().any(|binding| {
            binding.grants(method, principal) || (acts_itself && binding.methods.has(method))
        })
    }

    /// Whether a binding that is not for everybody grants `method`.
    pub fn is_named_for(&self, method: Method) -> bool {
        self.bindings.iter().any(|binding| {
            let is_named = match binding.who {
                Who::Everybody | Who::DevelopmentLogin => false,
                Who::Spiffe(_) | Who::LocalUser(_) | Who::Token { .. } => true,
            };
            is_named && binding.methods.has(method)
        })
    }

    /// How much it may ask by `method`: by the first binding that grants it.
    pub fn limits(&self, method: Method) -> BindingLimits {
        let granting = self
            .bindings
            .iter()
            .find(|binding| binding.methods.has(method));
        granting.map(|binding| binding.limits).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usecase::callers::MethodSet;

    fn binding(name: &str, methods: &[&str], speaks_for: &[&str]) -> Arc<Binding> {
        Arc::new(Binding {
            name: name.to_owned(),
            who: Who::Everybody,
            methods: MethodSet::named(methods).unwrap(),
            speaks_for: speaks_for
                .iter()
                .map(|text| text.parse().unwrap())
                .collect(),
            limits: BindingLimits::default(),
        })
    }

    #[test]
    fn what_two_bindings_grant_is_not_mixed() {
        let bindings = [
            binding("a", &["AuthorizationService/Authorize"], &["Agent"]),
            binding("b", &["AuthorizationService/Explain"], &["*"]),
        ];
        let identity = Identity::new((String::new(), 0), CallerFacts::Unknown, &bindings);
        let (agent, user) = (EntityRef::new("Agent", "a"), EntityRef::new("User", "u"));
        assert!(identity.may_speak_for(Method::AUTHORIZE, &agent));
        assert!(!identity.may_speak_for(Method::AUTHORIZE, &user));
        assert!(identity.may_speak_for(Method::EXPLAIN, &user));
        assert!(!identity.may_call(Method::BATCH_AUTHORIZE));
    }

    #[test]
    fn without_a_binding_nothing_is_granted() {
        let identity = Identity::new((String::new(), 0), CallerFacts::Unknown, &[]);
        assert!(Method::all().all(|method| !identity.may_call(method)));
        assert!(!identity.may_speak_for(Method::AUTHORIZE, &EntityRef::new("Agent", "a")));
    }

    #[test]
    fn who_acts_by_a_token_speaks_for_itself_and_for_nobody_else() {
        let bindings = [binding("a", &["AuthorizationService/Authorize"], &[])];
        let planner = EntityRef::new("Agent", "planner");
        let identity = Identity {
            delegation: Some(Delegation {
                actor: planner.clone(),
                on_behalf_of: vec![],
            }),
            ..Identity::new((String::new(), 0), CallerFacts::Unknown, &bindings)
        };
        assert!(identity.may_speak_for(Method::AUTHORIZE, &planner));
        assert!(!identity.may_speak_for(Method::EXPLAIN, &planner));
        assert!(!identity.may_speak_for(Method::AUTHORIZE, &EntityRef::new("Agent", "x")));
    }
}
