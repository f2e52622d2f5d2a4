//! What a verification finds: one sentence, the place, and how grave it is.

use std::collections::BTreeMap;

/// How many findings of one kind are kept; the others are counted.
const MAX_OF_A_KIND: u64 = 50;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; an honest log has such.
    Note,
    /// Something is not there, so not everything could be verified.
    Incomplete,
    /// What no writer and no crash leaves behind.
    Tampering,
}

impl Severity {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Incomplete => "incomplete",
            Self::Tampering => "tampering",
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $name:literal, $severity:ident;)*) => {
        /// What kind of thing was found. Names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])* $kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// Its name in reports.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// How grave it is.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$kind => Severity::$severity,)*
                }
            }
        }
    };
}

kinds! {
    /// A file of a log holds what no writer and no crash leaves there.
    Damaged = "damaged", Tampering;
    /// A leaf is not a record.
    RecordUnreadable = "record_unreadable", Tampering;
    /// A record is in a log of the wrong kind.
    RecordMisplaced = "record_misplaced", Tampering;
    /// The records below the first one are gone, and no record says that they were removed.
    RecordsMissing = "records_missing", Tampering;
    /// A bundle's records do not have the hash that is kept for it.
    BundleHashDiffers = "bundle_hash_differs", Tampering;
    /// The records do not have the root that was signed.
    RootDiffers = "root_differs", Tampering;
    /// A signed checkpoint says that there are more records.
    CheckpointBeyondLog = "checkpoint_beyond_log", Tampering;
    /// A checkpoint cannot be read.
    CheckpointUnreadable = "checkpoint_unreadable", Tampering;
    /// A checkpoint's signature is wrong.
    CheckpointBadSignature = "checkpoint_bad_signature", Tampering;
    /// A checkpoint was signed with a key that the log does not know by then.
    CheckpointUnknownKey = "checkpoint_unknown_key", Tampering;
    /// A checkpoint is of another log.
    CheckpointOtherOrigin = "checkpoint_other_origin", Tampering;
    /// Checkpoints do not stand in the order of their sizes.
    CheckpointsGoBackwards = "checkpoints_go_backwards", Tampering;
    /// The control log does not begin with the key that signs it.
    FirstRecordNotKey = "first_record_not_key", Tampering;
    /// A key is vouched for by nobody who may.
    KeyChainBroken = "key_chain_broken", Tampering;
    /// The file with a log's keys says something else than the control log.
    KeyFileDiffers = "key_file_differs", Tampering;
    /// The newest checkpoint was signed with no key that the pinned ones vouch for.
    KeyNotPinned = "key_not_pinned", Tampering;
    /// Two copies of the control log are not the same log.
    MirrorsDiffer = "mirrors_differ", Tampering;
    /// A head that was kept elsewhere cannot be read.
    HeadUnreadable = "head_unreadable", Tampering;
    /// No key of the log signed a head that was kept elsewhere.
    HeadUntrusted = "head_untrusted", Tampering;
    /// A head that was kept elsewhere has another root.
    HeadDiffers = "head_differs", Tampering;
    /// A head that was kept elsewhere is of a longer log.
    HeadBeyondLog = "head_beyond_log", Tampering;
    /// The control log knows nothing of a decision log.
    LogUnregistered = "log_unregistered", Tampering;
    /// One start of a replica is registered twice.
    RegisteredTwice = "registered_twice", Tampering;
    /// The control log speaks of a decision log that was not registered before.
    ReplicaUnknown = "replica_unknown", Tampering;
    /// A decision log does not have the root that the control log says.
    AnchorDiffers = "anchor_differs", Tampering;
    /// A decision log has fewer records than the control log says.
    AnchorBeyondLog = "anchor_beyond_log", Tampering;
    /// A decision log has more records than it had when it ended.
    RecordsAfterEnd = "records_after_end", Tampering;
    /// A log that was ended does not hold as many decisions as were answered.
    CountsDiffer = "counts_differ", Tampering;
    /// The records about an approval do not follow one another.
    ApprovalCourse = "approval_course", Tampering;
    /// A record about an approval is about another request.
    ApprovalDigest = "approval_digest", Tampering;
    /// A vote counts that must not count.
    ApprovalVote = "approval_vote", Tampering;
    /// An approval was granted without its quorum, or not granted with it.
    ApprovalQuorum = "approval_quorum", Tampering;
    /// A grant was spent that must not be spent.
    ApprovalRedemption = "approval_redemption", Tampering;
    /// An approval was ended by somebody who may not, or at a time when it could not.
    ApprovalEnding = "approval_ending", Tampering;
    /// A decision rests on a grant that nobody spent.
    GrantUnbacked = "grant_unbacked", Tampering;
    /// A decision rests on a grant of another request.
    GrantOtherRequest = "grant_other_request", Tampering;
    /// A decision rests on a grant and does not allow.
    GrantNotAllow = "grant_not_allow", Tampering;
    /// A request was allowed without the approval that it needed.
    ApprovalBypassed = "approval_bypassed", Tampering;
    /// A selected record is not in its log.
    ProofWrong = "proof_wrong", Tampering;
    /// The database has an approval otherwise than the log.
    DatabaseApproval = "database_approval", Tampering;
    /// The database has a vote otherwise than the log.
    DatabaseVote = "database_vote", Tampering;
    /// The database has a redemption otherwise than the log.
    DatabaseRedemption = "database_redemption", Tampering;
    /// The database has other control records than the log.
    DatabaseControl = "database_control", Tampering;
    /// A decision log that was registered is not there.
    LogMissing = "log_missing", Incomplete;
    /// There is no control log.
    ControlMissing = "control_missing", Incomplete;
    /// Nobody signed the control log.
    ControlUnsigned = "control_unsigned", Incomplete;
    /// The database cannot be read.
    DatabaseUnreadable = "database_unreadable", Incomplete;
    /// A replica has neither ended nor signed anything for a while, although the cluster went on.
    ReplicaSilent = "replica_silent", Incomplete;
    /// A record was written by a newer version, which must verify it.
    NewerRecord = "newer_record", Incomplete;
    /// A file cannot be read now.
    Unreadable = "unreadable", Incomplete;
    /// Records that no checkpoint covers yet.
    UnsignedTail = "unsigned_tail", Note;
    /// The end of a file that a crash cut off.
    TornTail = "torn_tail", Note;
    /// A replica was lost; so many decisions may have been lost with it.
    ReplicaLost = "replica_lost", Note;
    /// A log of a lost replica holds more records than were known to be kept.
    LostLonger = "lost_longer", Note;
    /// Records of a lost replica that its own key never signed.
    LostUnsigned = "lost_unsigned", Note;
    /// A decision log that came while the logs were read.
    LogNew = "log_new", Note;
    /// Only selected records of decision logs were given.
    OnlySelected = "only_selected", Note;
    /// A checkpoint bears a signature that nobody can judge, beside one of the log's.
    UnknownSignature = "unknown_signature", Note;
    /// A replica that has not ended.
    ReplicaRunning = "replica_running", Note;
    /// Decisions that were answered and are declared as lost.
    Gap = "gap", Note;
    /// A record is older than the one before it.
    ClockBackwards = "clock_backwards", Note;
    /// A grant was spent and no decision says so.
    RedeemedWithoutDecision = "redeemed_without_decision", Note;
    /// A decision rests on a grant whose spending is not in the control log yet.
    GrantAhead = "grant_ahead", Note;
    /// No key was pinned, so the log vouches for itself.
    KeysNotPinned = "keys_not_pinned", Note;
    /// No head was given, so what was cut off the end of the control log cannot be seen.
    HeadsNotGiven = "heads_not_given", Note;
    /// Records that were removed, as a record says.
    Pruned = "pruned", Note;
    /// The database is ahead of the log.
    DatabaseAhead = "database_ahead", Note;
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// In which log: `control`, `decision/…`, `database` or `heads`, with the folder in front where there are several.
    pub log: String,
    /// At which record.
    pub index: Option<u64>,
    /// About which approval.
    pub approval: Option<String>,
    /// One sentence for people.
    pub says: String,
}

impl Finding {
    /// A finding in a log.
    pub fn new(kind: Kind, log: &str, says: impl Into<String>) -> Self {
        Self {
            kind,
            log: log.to_owned(),
            index: None,
            approval: None,
            says: says.into(),
        }
    }

    /// The same, at a record.
    #[must_use]
    pub fn at(mut self, index: u64) -> Self {
        self.index = Some(index);
        self
    }

    /// The same, about an approval.
    #[must_use]
    pub fn of(mut self, approval: &str) -> Self {
        self.approval = Some(approval.to_owned());
        self
    }
}

/// What was found so far: the first of each kind, and how many there are.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    counts: BTreeMap<Kind, u64>,
}

impl Findings {
    /// Takes another one.
    pub fn add(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.kind).or_default();
        *count = count.saturating_add(1);
        if *count <= MAX_OF_A_KIND {
            self.kept.push(finding);
        }
    }

    /// Takes all of `others`.
    pub fn absorb(&mut self, others: Self) {
        for finding in others.kept {
            let kept = self.kept.iter().filter(|each| each.kind == finding.kind);
            if u64::try_from(kept.count()).is_ok_and(|kept| kept < MAX_OF_A_KIND) {
                self.kept.push(finding);
            }
        }
        for (kind, more) in others.counts {
            let count = self.counts.entry(kind).or_default();
            *count = count.saturating_add(more);
        }
    }

    /// Whether there is one of these kinds.
    pub fn has(&self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| self.counts.contains_key(kind))
    }

    /// Those that were kept, in the order in which they were found.
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// The gravest of them; a note if there are none.
    pub fn gravest(&self) -> Severity {
        let severities = self.counts.keys().map(|kind| kind.severity());
        severities.max().unwrap_or(Severity::Note)
    }
}
