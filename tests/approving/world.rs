//! A world for one test: policies that it can edit, a clock that it winds, and everything that approvals need.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::approval::flood::FloodLimits;
use countersign::approval::{
    Approval, ApprovalId, Choice, ControlRecord, Event, Happening, Person, Refusal, Standing,
    Status,
};
use countersign::model::{Decision, PolicyProblem};
use countersign::policy::{Bundle, BundleFile, CompileOptions, parse_entity};
use countersign::storage::memory::MemoryStore;
use countersign::usecase::approval_store::{ApprovalStore, Delivery};
use countersign::usecase::approvals::{
    Approvals, ApprovalsError, CastVote, Directory, Voted, Withdraw, Withdrawer,
};
use countersign::usecase::ports::{Channels, Clock, PolicySource, PortFuture, TellError};
use countersign::usecase::{
    ActiveSnapshot, ApprovalFault, ApprovalPart, AuthorizeError, Authorized, Authorizer,
    AuthorizerSettings, CacheSettings, ReloadOutcome, Reloader,
};
use jiff::Timestamp;
use serde_json::json;

use crate::people::{PEOPLE, POLICIES, REVIEWERS, RULES, SCHEMA};
use crate::request::Ask;
use crate::store::FaultyStore;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const MICROSECOND: Duration = Duration::from_micros(1);

/// The longest time that is less than `wait`.
pub(crate) fn just_before(wait: Duration) -> Duration {
    wait.checked_sub(MICROSECOND).unwrap()
}

/// A clock that stands until it is wound.
#[derive(Debug)]
pub(crate) struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

impl ManualClock {
    pub(crate) fn forward(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap();
        self.0.fetch_add(by, Ordering::SeqCst);
    }

    pub(crate) fn back(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap();
        self.0.fetch_sub(by, Ordering::SeqCst);
    }

    pub(crate) fn set(&self, to: Timestamp) {
        self.0.store(to.as_microsecond(), Ordering::SeqCst);
    }
}

/// A policy directory in memory.
#[derive(Debug, Default)]
struct Folder {
    files: Mutex<BTreeMap<String, String>>,
    entities: Mutex<BTreeMap<String, serde_json::Value>>,
}

impl PolicySource for Folder {
    fn read(&self) -> Result<Bundle, PolicyProblem> {
        let entities: Vec<serde_json::Value> =
            self.entities.lock().unwrap().values().cloned().collect();
        let mut files = self.files.lock().unwrap().clone();
        files.insert(
            "entities/all.json".to_owned(),
            serde_json::Value::Array(entities).to_string(),
        );
        Ok(Bundle::new(files.into_iter().map(|(path, text)| {
            BundleFile {
                path,
                bytes: text.into_bytes(),
            }
        })))
    }
}

/// One telling: where, of which version, how it stood.
pub(crate) type Told = (String, u64, Status);

/// Keeps what was told, and fails where it is told to.
#[derive(Debug, Default)]
pub(crate) struct RecordingChannels {
    told: Mutex<Vec<Told>>,
    failing: Mutex<BTreeMap<String, TellError>>,
}

impl RecordingChannels {
    /// What was told since the last time somebody looked.
    pub(crate) fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    pub(crate) fn fail(&self, destination: &str, retry_after: Option<Duration>) {
        let error = TellError {
            error: "does not answer".to_owned(),
            retry_after,
        };
        self.failing
            .lock()
            .unwrap()
            .insert(destination.to_owned(), error);
    }

    pub(crate) fn heal(&self) {
        self.failing.lock().unwrap().clear();
    }
}

impl Channels for RecordingChannels {
    fn tell<'a>(
        &'a self,
        delivery: &'a Delivery,
        approval: &'a Approval,
        now: Timestamp,
    ) -> PortFuture<'a, Result<Option<String>, TellError>> {
        let failing = self
            .failing
            .lock()
            .unwrap()
            .get(&delivery.destination)
            .cloned();
        let answer = failing.map_or_else(
            || {
                let told = (
                    delivery.destination.clone(),
                    approval.version,
                    approval.status_at(now),
                );
                self.told.lock().unwrap().push(told);
                Ok(Some(format!("message of {}", delivery.approval)))
            },
            Err,
        );
        Box::pin(std::future::ready(answer))
    }
}

/// A world in the making.
pub(crate) struct WorldBuilder {
    folder: Folder,
    limits: FloodLimits,
}

impl WorldBuilder {
    pub(crate) fn new() -> Self {
        let builder = Self {
            folder: Folder::default(),
            limits: FloodLimits::default(),
        };
        builder
            .file("schema.cedarschema", SCHEMA)
            .file("policies.cedar", POLICIES)
            .file("reviewers.cedar", REVIEWERS)
            .file("approvals.toml", RULES)
            .with_people()
    }

    fn with_people(self) -> Self {
        for (name, linked, teams) in PEOPLE {
            put_user(&self.folder, name, linked, teams);
        }
        for team in ["sre", "directors", "security"] {
            put(&self.folder, &format!("Team::\"{team}\""), json!({}), &[]);
        }
        let user = |id: &str| json!({ "__entity": { "type": "User", "id": id } });
        let agent = |id: &str| json!({ "__entity": { "type": "Agent", "id": id } });
        put(
            &self.folder,
            "Agent::\"bot\"",
            json!({ "owner": user("olive") }),
            &[],
        );
        put(
            &self.folder,
            "Agent::\"sub\"",
            json!({ "owners": [agent("bot")] }),
            &[],
        );
        for (service, env) in [("api", "prod"), ("web", "prod"), ("lab", "dev")] {
            let attributes = json!({ "env": env });
            put(
                &self.folder,
                &format!("Service::\"{service}\""),
                attributes,
                &[],
            );
        }
        self
    }

    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.folder
            .files
            .lock()
            .unwrap()
            .insert(path.to_owned(), text.to_owned());
        self
    }

    /// With further lines for the rule `prod`.
    pub(crate) fn rule_with(self, lines: &str) -> Self {
        let text = format!("{RULES}{lines}\n");
        self.file("approvals.toml", &text)
    }

    pub(crate) fn limits(mut self, limits: FloodLimits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn build(self) -> World {
        let clock = Arc::new(ManualClock(AtomicI64::new(1_800_000_000_000_000)));
        let folder = Arc::new(self.folder);
        let reloader = Reloader::new(
            Arc::clone(&folder) as Arc<dyn PolicySource>,
            CompileOptions::default(),
            CacheSettings::default(),
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        let store = Arc::new(FaultyStore::new(MemoryStore::default()));
        let approvals = Arc::new(Approvals::new(
            Arc::clone(&store) as Arc<dyn ApprovalStore>,
            reloader.active(),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Directory::new("User"),
            self.limits,
        ));
        let authorizer = Arc::new(Authorizer::new(
            reloader.active(),
            reloader.history(),
            Some(Arc::clone(&approvals)),
            Arc::clone(&clock) as Arc<dyn Clock>,
            AuthorizerSettings::default(),
        ));
        let world = World {
            folder,
            clock,
            reloader,
            store,
            approvals,
            authorizer,
            channels: Arc::default(),
        };
        world.reload();
        world
    }
}

fn put(folder: &Folder, uid: &str, attributes: serde_json::Value, parents: &[&str]) {
    let name = |text: &str| {
        let uid = parse_entity(text).unwrap();
        json!({ "type": uid.type_name, "id": uid.id })
    };
    let parents: Vec<_> = parents.iter().map(|parent| name(parent)).collect();
    let mut entity = json!({ "uid": name(uid), "parents": parents });
    entity["attrs"] = attributes;
    folder
        .entities
        .lock()
        .unwrap()
        .insert(uid.to_owned(), entity);
}

fn put_user(folder: &Folder, name: &str, linked: &[&str], teams: &[&str]) {
    let linked: Vec<_> = linked
        .iter()
        .map(|other| json!({ "__entity": { "type": "User", "id": other } }))
        .collect();
    let attributes = if linked.is_empty() {
        json!({})
    } else {
        json!({ "same_person_as": linked })
    };
    let teams: Vec<String> = teams
        .iter()
        .map(|team| format!("Team::\"{team}\""))
        .collect();
    let teams: Vec<&str> = teams.iter().map(String::as_str).collect();
    put(folder, &format!("User::\"{name}\""), attributes, &teams);
}

/// Everything that approvals need.
pub(crate) struct World {
    folder: Arc<Folder>,
    pub(crate) clock: Arc<ManualClock>,
    reloader: Reloader,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) approvals: Arc<Approvals>,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) channels: Arc<RecordingChannels>,
}

impl World {
    pub(crate) fn new() -> Self {
        WorldBuilder::new().build()
    }

    // ---- Policies.

    /// Reads the policies anew; they must be sound.
    pub(crate) fn reload(&self) {
        match self.reloader.reload() {
            ReloadOutcome::Activated | ReloadOutcome::Unchanged => {}
            ReloadOutcome::Rejected(problems) => panic!("{problems:#?}"),
        }
    }

    /// Reads policies anew that cannot be loaded.
    pub(crate) fn reload_in_vain(&self) {
        let outcome = self.reloader.reload();
        assert!(matches!(outcome, ReloadOutcome::Rejected(_)), "{outcome:?}");
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        self.folder
            .files
            .lock()
            .unwrap()
            .insert(path.to_owned(), text.to_owned());
    }

    /// Replaces `old`, which must be there, in a file.
    pub(crate) fn replace(&self, path: &str, old: &str, new: &str) {
        let mut files = self.folder.files.lock().unwrap();
        let text = files.get_mut(path).unwrap();
        assert!(text.contains(old), "`{old}` is not in {path}");
        *text = text.replace(old, new);
    }

    /// Adds `text` to a file, and reloads.
    pub(crate) fn add(&self, path: &str, text: &str) {
        {
            let mut files = self.folder.files.lock().unwrap();
            files.entry(path.to_owned()).or_default().push_str(text);
        }
        self.reload();
    }

    /// Stores a person, or stores them otherwise, and reloads.
    pub(crate) fn user(&self, name: &str, linked: &[&str], teams: &[&str]) {
        put_user(&self.folder, name, linked, teams);
        self.reload();
    }

    /// Stores an entity, or stores it otherwise, and reloads.
    pub(crate) fn entity(&self, uid: &str, attributes: serde_json::Value) {
        put(&self.folder, uid, attributes, &[]);
        self.reload();
    }

    /// Stores an entity otherwise, for a later reload.
    pub(crate) fn entity_unloaded(&self, uid: &str, attributes: serde_json::Value) {
        put(&self.folder, uid, attributes, &[]);
    }

    /// The policies in force.
    pub(crate) fn active(&self) -> Arc<arc_swap::ArcSwapOption<ActiveSnapshot>> {
        self.reloader.active()
    }

    /// Forgets an entity, and reloads.
    pub(crate) fn forget(&self, uid: &str) {
        self.folder.entities.lock().unwrap().remove(uid).unwrap();
        self.reload();
    }

    // ---- Requests.

    pub(crate) async fn authorize(&self, ask: &Ask) -> Result<Authorized, AuthorizeError> {
        self.authorizer.authorize(ask.0.clone()).await
    }

    /// The answer in words.
    pub(crate) async fn answer(&self, ask: &Ask) -> String {
        words(&self.authorize(ask).await)
    }

    /// Asks, and is told to wait for an approval.
    pub(crate) async fn open(&self, ask: &Ask) -> Approval {
        let authorized = self.authorize(ask).await.unwrap();
        assert_eq!(authorized.decision(), Decision::RequireApproval);
        let ApprovalPart::Waits(approval) = authorized.approval else {
            panic!("{:?}", authorized.approval);
        };
        *approval
    }

    /// Asks, and has it approved by Alice and Bob.
    pub(crate) async fn approved(&self, ask: &Ask) -> Approval {
        let approval = self.open(ask).await;
        self.approve("alice", &approval).await.unwrap();
        let approval = self.approve("bob", &approval).await.unwrap().approval;
        assert_eq!(approval.status(), Status::Approved);
        approval
    }

    // ---- People.

    pub(crate) async fn approve(
        &self,
        who: &str,
        approval: &Approval,
    ) -> Result<Voted, ApprovalsError> {
        self.approvals
            .vote(ballot(who, Choice::Approve, approval))
            .await
    }

    pub(crate) async fn deny(
        &self,
        who: &str,
        approval: &Approval,
    ) -> Result<Voted, ApprovalsError> {
        self.approvals
            .vote(ballot(who, Choice::Deny, approval))
            .await
    }

    pub(crate) async fn cancel(
        &self,
        by: Withdrawer,
        approval: &Approval,
    ) -> Result<Approval, ApprovalsError> {
        self.approvals.cancel(withdraw(by, approval)).await
    }

    pub(crate) async fn revoke(
        &self,
        by: Withdrawer,
        approval: &Approval,
    ) -> Result<Approval, ApprovalsError> {
        self.approvals.revoke(withdraw(by, approval)).await
    }

    // ---- What is kept.

    pub(crate) async fn now_of(&self, approval: &Approval) -> Approval {
        self.store.find(&approval.id).await.unwrap().unwrap()
    }

    pub(crate) async fn status(&self, approval: &Approval) -> Status {
        self.now_of(approval).await.status()
    }

    /// How it stands and why, such as `SUPERSEDED POLICY_NOW_DENIES`.
    pub(crate) async fn standing(&self, approval: &Approval) -> String {
        how_it_stands(&self.now_of(approval).await)
    }

    pub(crate) async fn records(&self, id: &ApprovalId) -> Vec<ControlRecord> {
        let stored = self.store.records(id).await.unwrap();
        stored.into_iter().map(|each| each.record).collect()
    }

    /// The votes that were refused, with the reason, as they were recorded.
    pub(crate) async fn refused_votes(&self, approval: &Approval) -> Vec<(Standing, Refusal)> {
        let refused = |record: ControlRecord| match record.what {
            Happening::Refused(Event::Vote(ballot), refusal) => Some((ballot.standing, refusal)),
            Happening::Refused(..)
            | Happening::Opened(_)
            | Happening::Changed(_)
            | Happening::TimedOut
            | Happening::Reminded
            | Happening::Escalated => None,
        };
        self.records(&approval.id)
            .await
            .into_iter()
            .filter_map(refused)
            .collect()
    }

    /// Delivers what is due, and answers what was told, sorted.
    pub(crate) async fn deliver(&self) -> Vec<Told> {
        let channels = Arc::clone(&self.channels) as Arc<dyn Channels>;
        self.approvals.deliver(&channels).await.unwrap();
        let mut told = self.channels.take();
        told.sort_by(|one, other| one.0.cmp(&other.0));
        told
    }
}

/// How an approval stands and why.
pub(crate) fn how_it_stands(approval: &Approval) -> String {
    match &approval.state {
        countersign::approval::State::Closed(status, closed) => match closed.cause {
            Some(cause) => format!("{status} {}", cause.as_str()),
            None => status.to_string(),
        },
        countersign::approval::State::Pending
        | countersign::approval::State::Approved(_)
        | countersign::approval::State::Redeemed { .. } => approval.status().to_string(),
    }
}

/// An answer in words: the decision, and what the approval had to do with it.
pub(crate) fn words(answer: &Result<Authorized, AuthorizeError>) -> String {
    let authorized = match answer {
        Ok(authorized) => authorized,
        Err(error) => return format!("error: {error}"),
    };
    let decision = match authorized.decision() {
        Decision::Allow => "ALLOW",
        Decision::Deny => "DENY",
        Decision::RequireApproval => "REQUIRE_APPROVAL",
    };
    let part = match &authorized.approval {
        ApprovalPart::None => return decision.to_owned(),
        ApprovalPart::Waits(approval) => format!("waits for {}", how_it_stands(approval)),
        ApprovalPart::Granted(approval) => format!("granted by {}", how_it_stands(approval)),
        ApprovalPart::Untouched(approval) => format!("beside {}", how_it_stands(approval)),
        ApprovalPart::Refused(refusal) => match refusal.fault {
            ApprovalFault::Closed => "Closed".to_owned(),
            ApprovalFault::Redeemed => "Redeemed".to_owned(),
            ApprovalFault::Mismatch => "Mismatch".to_owned(),
            ApprovalFault::CoolingDown => "CoolingDown".to_owned(),
            ApprovalFault::NobodyCanApprove => "NobodyCanApprove".to_owned(),
        },
    };
    format!("{decision} {part}")
}

/// What a refused answer says.
pub(crate) fn message(answer: &Result<Authorized, AuthorizeError>) -> &str {
    match answer.as_ref().map(|authorized| &authorized.approval) {
        Ok(ApprovalPart::Refused(refusal)) => &refusal.message,
        other => panic!("{other:?}"),
    }
}

/// A vote as cast by somebody who looked at `approval`.
pub(crate) fn ballot(who: &str, choice: Choice, approval: &Approval) -> CastVote {
    CastVote {
        id: approval.id.clone(),
        person: person(who),
        channel: "api",
        choice,
        request_digest: approval.asked.digest,
        view_digest: approval.asked.view_digest,
        comment: None,
        request_id: None,
    }
}

pub(crate) fn person(name: &str) -> Person {
    Person {
        issuer: "https://login.example".to_owned(),
        subject: name.to_owned(),
    }
}

pub(crate) fn by_person(name: &str) -> Withdrawer {
    Withdrawer::Person(person(name))
}

pub(crate) fn by_caller(name: &str) -> Withdrawer {
    Withdrawer::Caller(name.to_owned())
}

fn withdraw(by: Withdrawer, approval: &Approval) -> Withdraw {
    Withdraw {
        id: approval.id.clone(),
        by,
        comment: None,
        request_id: None,
    }
}
