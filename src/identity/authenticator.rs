//! Tells callers by what they show: the connection, or a token.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;

use moka::sync::Cache;

use crate::approval::Person;
use crate::model::EntityRef;
use crate::usecase::callers::{Binding, CallerFacts, Delegation, Identity};
use crate::usecase::ports::{Authentication, Clock, NotAuthenticated, Peer, PortFuture};

use super::development::DevelopmentLogins;
use super::token::{Tokens, VerifiedToken};

/// How many identities are kept.
const KEPT_IDENTITIES: u64 = 10_000;

/// What an issuer's tokens mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerMeaning {
    /// Whether its subjects are people, who may vote.
    pub has_people: bool,
    /// The entity type of its subjects.
    pub subject_type: String,
    /// The entity type of those who act for its subjects.
    pub actor_type: String,
}

/// Everything that callers are told by.
#[derive(Debug, Default)]
pub struct Credentials {
    /// What callers may do.
    pub bindings: Vec<Binding>,
    /// Checks tokens, where any are taken.
    pub tokens: Option<Arc<Tokens>>,
    /// What tokens mean, by the name of their issuer.
    pub issuers: BTreeMap<String, IssuerMeaning>,
    /// Whether whoever says a name is believed.
    pub development_logins: bool,
}

/// A token with the identity that it means. The address of the token is the key, so it must live as long as the entry.
type Known = (Arc<VerifiedToken>, Arc<Identity>);

/// Tells callers by what they show.
pub struct Authenticator {
    bindings: Vec<Arc<Binding>>,
    tokens: Option<Arc<Tokens>>,
    issuers: BTreeMap<String, IssuerMeaning>,
    takes_development_logins: bool,
    clock: Arc<dyn Clock>,
    identities: Cache<usize, Known>,
    hasher: RandomState,
}

impl Authenticator {
    /// Tells callers by `credentials`.
    pub fn new(credentials: Credentials, clock: Arc<dyn Clock>) -> Self {
        Self {
            bindings: credentials.bindings.into_iter().map(Arc::new).collect(),
            tokens: credentials.tokens,
            issuers: credentials.issuers,
            takes_development_logins: credentials.development_logins,
            clock,
            identities: Cache::new(KEPT_IDENTITIES),
            hasher: RandomState::new(),
        }
    }

    fn identity(&self, caller: String, counted_as: &str, facts: CallerFacts<'_>) -> Identity {
        let key = self.hasher.hash_one(counted_as);
        Identity::new((caller, key), facts, &self.bindings)
    }

    fn developer(&self, person: Person) -> Arc<Identity> {
        let counted_as = format!("development:{}", person.subject);
        let identity = self.identity(String::new(), &counted_as, CallerFacts::DevelopmentLogin);
        Arc::new(identity.as_person(Some(person)))
    }

    /// What `token` means.
    fn meaning(&self, token: Arc<VerifiedToken>) -> Arc<Identity> {
        let key = Arc::as_ptr(&token).addr();
        if let Some((_, identity)) = self.identities.get(&key) {
            return identity;
        }
        let identity = Arc::new(self.read(&token));
        self.identities.insert(key, (token, Arc::clone(&identity)));
        identity
    }

    fn read(&self, token: &VerifiedToken) -> Identity {
        let actor = token.actors.first();
        let subject = actor.map_or(&token.subject, |actor| &actor.subject);
        let caller = format!("{}#{subject}", token.issuer);
        let facts = CallerFacts::Token {
            issuer: &token.issuer_name,
            subject,
            // The roles are the subject's, and who acts for it does not get them.
            roles: if actor.is_none() { &token.roles } else { &[] },
        };
        let identity = self.identity(caller.clone(), &caller, facts);
        let Some(meaning) = self.issuers.get(&token.issuer_name) else {
            return identity.until(token.expires);
        };
        // A client that got a token for itself is no person, whoever issued it.
        let is_client = token.client_id.as_ref() == Some(&token.subject);
        let is_person = meaning.has_people && actor.is_none() && !is_client;
        let person = is_person.then(|| Person {
            issuer: token.issuer.clone(),
            subject: token.subject.clone(),
        });
        identity
            .as_person(person)
            .acting_for(delegation(token, meaning))
            .until(token.expires)
    }
}

/// Where `address` is counted: an IPv4 address by itself, an IPv6 address with all of its network, since whoever has one has them all.
fn neighbourhood(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(SocketAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.ip().segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Ok(SocketAddr::V4(address)) => address.ip().to_string(),
        Err(_) => address.to_owned(),
    }
}

/// Whether everybody who acts by `token` is known to its own issuer: who is known to another one is another.
fn acts_within(token: &VerifiedToken) -> bool {
    let mut issuers = token
        .actors
        .iter()
        .filter_map(|actor| actor.issuer.as_ref());
    issuers.all(|issuer| *issuer == token.issuer)
}

/// The chain of `token`, where one acts for another.
fn delegation(token: &VerifiedToken, meaning: &IssuerMeaning) -> Option<Delegation> {
    let mut actors = token
        .actors
        .iter()
        .map(|actor| EntityRef::new(&*meaning.actor_type, &*actor.subject));
    let actor = actors.next()?;
    let subject = EntityRef::new(&*meaning.subject_type, &*token.subject);
    Some(Delegation {
        actor,
        on_behalf_of: actors.chain([subject]).collect(),
    })
}

impl Authentication for Authenticator {
    fn peer(&self, peer: &Peer) -> Arc<Identity> {
        let identity = match peer {
            Peer::Network { address } => {
                self.identity(String::new(), &neighbourhood(address), CallerFacts::Unknown)
            }
            Peer::Local { user: None } => {
                self.identity(String::new(), "unix", CallerFacts::Unknown)
            }
            Peer::Local { user: Some(user) } => {
                let caller = format!("unix:uid:{user}");
                self.identity(caller.clone(), &caller, CallerFacts::LocalUser(*user))
            }
            Peer::Certified { spiffe_id, .. } => {
                self.identity(spiffe_id.clone(), spiffe_id, CallerFacts::Spiffe(spiffe_id))
            }
        };
        Arc::new(identity)
    }

    fn known(&self, token: &str) -> Option<Arc<Identity>> {
        if self.takes_development_logins
            && let Ok(person) = DevelopmentLogins::person(token)
        {
            return Some(self.developer(person));
        }
        let known = self.tokens.as_ref()?.known(token, self.clock.now())?;
        acts_within(&known).then(|| self.meaning(known))
    }

    fn verify<'a>(
        &'a self,
        token: &'a str,
    ) -> PortFuture<'a, Result<Arc<Identity>, NotAuthenticated>> {
        Box::pin(async move {
            let Some(tokens) = &self.tokens else {
                return Err(NotAuthenticated::BadCredential(
                    if self.takes_development_logins {
                        "the credential is not a development login, `development:NAME`".to_owned()
                    } else {
                        "no credential is taken here: configure `[issuer.NAME]`, or for trying things out on loopback set `identity.development_logins`".to_owned()
                    },
                ));
            };
            match tokens.verify(token, self.clock.now()).await {
                Ok(token) if acts_within(&token) => Ok(self.meaning(token)),
                Ok(_) => Err(NotAuthenticated::BadCredential(
                    "the token's `act` names somebody of another issuer".to_owned(),
                )),
                Err(fault) if fault.is_unavailable() => {
                    Err(NotAuthenticated::CannotTell(fault.to_string()))
                }
                Err(fault) => Err(NotAuthenticated::BadCredential(fault.to_string())),
            }
        })
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("bindings", &self.bindings)
            .field("issuers", &self.issuers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::identity::Actor;

    #[derive(Debug)]
    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    fn authenticator() -> Authenticator {
        let meaning = IssuerMeaning {
            has_people: true,
            subject_type: "User".to_owned(),
            actor_type: "Agent".to_owned(),
        };
        let credentials = Credentials {
            bindings: vec![Binding::for_everybody()],
            issuers: [("people".to_owned(), meaning)].into(),
            ..Credentials::default()
        };
        Authenticator::new(credentials, Arc::new(Noon))
    }

    fn token() -> VerifiedToken {
        VerifiedToken {
            issuer_name: "people".to_owned(),
            issuer: "https://people.example".to_owned(),
            subject: "ada".to_owned(),
            roles: vec!["auditors".to_owned()],
            actors: Vec::new(),
            client_id: Some("console".to_owned()),
            expires: Timestamp::MAX,
        }
    }

    fn actor(issuer: Option<&str>) -> Actor {
        Actor {
            subject: "planner".to_owned(),
            issuer: issuer.map(str::to_owned),
        }
    }

    #[test]
    fn a_token_that_a_client_got_for_itself_names_no_person() {
        let authenticator = authenticator();
        let person = authenticator.read(&token()).person;
        assert_eq!(person.unwrap().subject, "ada");
        let of_client = VerifiedToken {
            client_id: Some("ada".to_owned()),
            ..token()
        };
        assert_eq!(authenticator.read(&of_client).person, None);
    }

    #[test]
    fn who_acts_for_a_person_is_none() {
        let acting = VerifiedToken {
            actors: vec![actor(None)],
            ..token()
        };
        let identity = authenticator().read(&acting);
        assert_eq!(identity.person, None);
        assert_eq!(identity.caller, "https://people.example#planner");
        let delegation = identity.delegation.unwrap();
        assert_eq!(delegation.actor, EntityRef::new("Agent", "planner"));
        assert_eq!(delegation.on_behalf_of, [EntityRef::new("User", "ada")]);
    }

    #[test]
    fn an_actor_of_another_issuer_is_another() {
        let acts = |issuer| {
            acts_within(&VerifiedToken {
                actors: vec![actor(issuer)],
                ..token()
            })
        };
        assert!(acts(None) && acts(Some("https://people.example")));
        assert!(!acts(Some("https://partner.example")));
    }

    #[test]
    fn a_network_of_version_6_is_one_neighbour() {
        let here = neighbourhood("[2001:db8:1:2:3:4:5:6]:70");
        assert_eq!(here, neighbourhood("[2001:db8:1:2::1]:71"));
        assert_ne!(here, neighbourhood("[2001:db8:1:3::1]:71"));
        assert_eq!(neighbourhood("10.0.0.1:7"), neighbourhood("10.0.0.1:8"));
        assert_ne!(neighbourhood("10.0.0.1:7"), neighbourhood("10.0.0.2:7"));
    }
}
