//! One who acts for another, as a token says.

use crate::model::{EntityRef, Request};

/// A token's chain: the actor, and those it acts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// Who acts.
    pub actor: EntityRef,
    /// For whom, nearest first; the token's subject is the last.
    pub on_behalf_of: Vec<EntityRef>,
}

/// A request that says something else than the token it came with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MisusedDelegation {
    /// The principal is not the actor.
    #[error("`principal`: the token says that {actor} acts, not {asked}")]
    Principal {
        /// Who acts by the token.
        actor: EntityRef,
        /// Who acts by the request.
        asked: EntityRef,
    },
    /// It acts for others than the token says.
    #[error("`on_behalf_of`: is not what the token says; leave it out, and the token's is taken")]
    Chain,
}

impl Delegation {
    /// Fills in for whom `request` is made.
    ///
    /// # Errors
    /// When the request says otherwise.
    pub fn apply(&self, request: &mut Request) -> Result<(), MisusedDelegation> {
        if request.principal != self.actor {
            return Err(MisusedDelegation::Principal {
                actor: self.actor.clone(),
                asked: request.principal.clone(),
            });
        }
        if !request.on_behalf_of.is_empty() && request.on_behalf_of != self.on_behalf_of {
            return Err(MisusedDelegation::Chain);
        }
        request.on_behalf_of.clone_from(&self.on_behalf_of);
        request.is_chain_verified = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Record;

    fn agent(id: &str) -> EntityRef {
        EntityRef::new("Agent", id)
    }

    #[test]
    fn the_token_says_for_whom() {
        let delegation = Delegation {
            actor: agent("planner"),
            on_behalf_of: vec![EntityRef::new("User", "ada")],
        };
        let ask = |principal| Request::new(principal, "Deploy", agent("r"), Record::default());
        let mut request = ask(agent("planner"));
        delegation.apply(&mut request).unwrap();
        assert_eq!(request.on_behalf_of, delegation.on_behalf_of);
        assert!(request.is_chain_verified);

        let mut request = ask(agent("planner"));
        request.on_behalf_of = vec![EntityRef::new("User", "eve")];
        assert_eq!(
            delegation.apply(&mut request),
            Err(MisusedDelegation::Chain)
        );
        assert!(delegation.apply(&mut ask(agent("other"))).is_err());
    }
}
