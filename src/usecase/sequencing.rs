//! Gives the records of the control log their places, and signs how far it has come.
//!
//! One replica at a time does this, the one that holds the lease. A record that has no place yet is kept all the same.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::checkpoint::{Checkpoint, CheckpointError};
use crate::audit::control_record::{decode, encode_control};
use crate::audit::keys::key_added;
use crate::audit::note::{Note, NoteError, SignerKey, VerifierKey};
use crate::audit::proto::{KeyAdded, record};
use crate::audit::tree::{TreeHash, leaf_hash};

use super::approval_store::{ApprovalStore, StoreError};
use super::control_log::{ControlHead, ControlLog, PendingEntry, SEQUENCER, SequenceCommand};
use super::ports::Clock;

/// How long the lease is good without being renewed.
const LEASE: Duration = Duration::from_secs(5);
/// How many records get their places at once.
const BATCH: u32 = 256;

/// Why records get no places, or the log is not signed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SequenceError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot sign.
    #[error("the control log cannot be signed: {0}")]
    Note(#[from] NoteError),
    /// The origin cannot be one.
    #[error("the control log cannot be signed: {0}")]
    Checkpoint(#[from] CheckpointError),
}

/// The keys that sign the control log: the newest last. All sign, so that whoever knows one of them can verify.
#[derive(Clone, Debug)]
pub struct ControlKeys {
    signers: Vec<SignerKey>,
}

/// What a replica knows of the control log from its copy.
#[derive(Clone, Debug, Default)]
pub struct KnownLog {
    /// How many records it has copied.
    pub size: u64,
    /// The keys that those records add, the newest last.
    pub keys: Vec<VerifierKey>,
}

impl ControlKeys {
    /// Signs with all of `signers`, which have one name, the origin of the control log. None if there are none.
    pub fn new(signers: Vec<SignerKey>) -> Option<Self> {
        (!signers.is_empty()).then_some(Self { signers })
    }

    /// The origin of the control log.
    pub fn origin(&self) -> &str {
        let first = self.signers.first();
        first.map_or("", |signer| signer.verifier().name())
    }

    /// The public halves.
    pub fn verifiers(&self) -> Vec<VerifierKey> {
        let signers = self.signers.iter();
        signers.map(|signer| signer.verifier().clone()).collect()
    }

    /// Whether `known` has one of these keys.
    pub fn can_sign(&self, known: &KnownLog) -> bool {
        self.known_signers(known).next().is_some()
    }

    /// A signed checkpoint of `size` records with this `root`. Signs with those keys that `known` has: no other is one of the log's.
    ///
    /// # Errors
    /// [`SequenceError`], also if there is no such key.
    pub fn sign(
        &self,
        known: &KnownLog,
        size: u64,
        root: TreeHash,
    ) -> Result<String, SequenceError> {
        let checkpoint = Checkpoint::new(self.origin(), size, root)?;
        let signers: Vec<&SignerKey> = self.known_signers(known).collect();
        Ok(checkpoint.signed(&signers)?.to_string())
    }

    fn known_signers<'k>(&'k self, known: &'k KnownLog) -> impl Iterator<Item = &'k SignerKey> {
        let signers = self.signers.iter();
        signers.filter(|signer| known.keys.contains(signer.verifier()))
    }
}

/// Gives records their places.
#[derive(Debug)]
pub struct Sequencer {
    leases: Arc<dyn ApprovalStore>,
    log: Arc<dyn ControlLog>,
    clock: Arc<dyn Clock>,
    keys: ControlKeys,
    /// Tells this replica from every other.
    holder: String,
}

impl Sequencer {
    /// Works for `log` under the leases of `leases`, which is the same store.
    pub fn new(
        leases: Arc<dyn ApprovalStore>,
        log: Arc<dyn ControlLog>,
        clock: Arc<dyn Clock>,
        keys: ControlKeys,
        holder: String,
    ) -> Self {
        Self {
            leases,
            log,
            clock,
            keys,
            holder,
        }
    }

    /// Gives places to what waits, if this replica is the one to do so. Answers how many records got one.
    ///
    /// # Errors
    /// [`SequenceError`]; the next call tries again, and nothing has a place twice.
    pub async fn sequence(&self, known: &KnownLog) -> Result<usize, SequenceError> {
        let now = self.clock.now();
        let lease = self
            .leases
            .lease(SEQUENCER, self.holder.clone(), LEASE, now);
        let Some(epoch) = lease.await? else {
            return Ok(0);
        };
        let head = self.log.head().await?;
        if head.frontier.size() == 0 {
            return self.begin(&head, epoch).await;
        }
        let waiting = self.log.pending(0, BATCH).await?;
        if known.size == head.frontier.size() {
            self.add_keys(known, &waiting).await?;
        }
        self.place(&head, waiting, epoch).await
    }

    /// A log begins with the key that signs it, whatever waits.
    async fn begin(&self, head: &ControlHead, epoch: u64) -> Result<usize, SequenceError> {
        let mut after = 0;
        let mut waits = false;
        loop {
            let page = self.log.pending(after, BATCH).await?;
            let Some(last) = page.last().map(|entry| entry.entry) else {
                break;
            };
            waits = true;
            if let Some(key) = page.into_iter().find(|entry| self.is_first_key(entry)) {
                return self.place(head, vec![key], epoch).await;
            }
            after = last;
        }
        if let (true, Some(first)) = (waits, self.keys.signers.first()) {
            self.append_key(first, None).await?;
        }
        Ok(0)
    }

    async fn place(
        &self,
        head: &ControlHead,
        waiting: Vec<PendingEntry>,
        epoch: u64,
    ) -> Result<usize, SequenceError> {
        let count = waiting.len();
        if count == 0 {
            return Ok(0);
        }
        let mut frontier = head.frontier.clone();
        for entry in &waiting {
            frontier.push(leaf_hash(&entry.bytes));
        }
        let command = SequenceCommand {
            from: head.frontier.size(),
            entries: waiting.into_iter().map(|entry| entry.entry).collect(),
            frontier,
            holder: self.holder.clone(),
            epoch,
            now: self.clock.now(),
        };
        let is_done = self.log.sequence(command).await?;
        Ok(if is_done { count } else { 0 })
    }

    /// Lets another replica go on at once.
    ///
    /// # Errors
    /// The store's; then the others wait until the lease is over.
    pub async fn release(&self) -> Result<(), StoreError> {
        let (holder, now) = (self.holder.clone(), self.clock.now());
        let lease = self.leases.lease(SEQUENCER, holder, Duration::ZERO, now);
        lease.await.map(drop)
    }

    /// Whether every record has its place.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_done(&self) -> Result<bool, StoreError> {
        Ok(self.log.pending(0, 1).await?.is_empty())
    }

    /// Records the keys that the log has not, each vouched for by the one before it. `waiting` is all that waits, or nothing is added.
    async fn add_keys(
        &self,
        known: &KnownLog,
        waiting: &[PendingEntry],
    ) -> Result<(), SequenceError> {
        let is_all = u32::try_from(waiting.len()).is_ok_and(|count| count < BATCH);
        if !is_all
            || waiting
                .iter()
                .any(|entry| added_key(&entry.bytes).is_some())
        {
            return Ok(());
        }
        let mut before: Option<&SignerKey> = None;
        for signer in &self.keys.signers {
            if known.keys.contains(signer.verifier()) {
                before = Some(signer);
            } else if before.is_some() {
                // One at a time: the next one is vouched for by this one once the log has it.
                return self.append_key(signer, before).await;
            }
        }
        Ok(())
    }

    async fn append_key(
        &self,
        key: &SignerKey,
        by: Option<&SignerKey>,
    ) -> Result<(), SequenceError> {
        let added = record::What::KeyAdded(key_added(key, by)?);
        let bytes = encode_control(self.clock.now().as_microsecond(), added);
        Ok(self.log.append(vec![bytes]).await?)
    }

    fn is_first_key(&self, entry: &PendingEntry) -> bool {
        let first = self.keys.signers.first().map(SignerKey::verifier);
        let added = added_key(&entry.bytes);
        first.is_some_and(|first| added.is_some_and(|added| added.key == first.to_string()))
    }
}

/// The size that a checkpoint is of, whoever signed it.
pub fn size_of(note: &str) -> Option<u64> {
    let note = Note::parse(note).ok()?;
    Some(Checkpoint::parse(note.text()).ok()?.size())
}

/// The key that a record adds, if it does.
pub fn added_key(bytes: &[u8]) -> Option<KeyAdded> {
    let Some(record::What::KeyAdded(added)) = decode(bytes)?.what else {
        return None;
    };
    Some(added)
}
