//! Changes to logs before they are written, by somebody who can write every file, and has stolen a key or made one.

use countersign::audit::control_record::encode_control;
use countersign::audit::keys::key_added;
use countersign::audit::note::SignerKey;
use countersign::audit::proto::record;

use crate::changes::{Logical, Made, Scene, Target};
use crate::cluster::{End, signer};
use crate::log::Log;
use crate::records::{altered, break_rules, decode, forged_decision};
use crate::{Given, everything};

/// The changes, by name.
pub(crate) const LOGICAL: [(&str, Logical); 17] = [
    ("delete a record", delete),
    ("insert a record", insert),
    ("swap two records", swap),
    ("alter a record", alter),
    ("cut off the end, checkpoints kept", cut_records),
    ("cut off the end, with its checkpoints", cut_cleanly),
    ("an old state of the control log", old_control),
    ("an old state of a decision log", old_decisions),
    (
        "fork a decision log with its stolen key",
        fork_decisions_stolen,
    ),
    ("fork a decision log with another key", fork_decisions_other),
    (
        "fork the control log with a stolen key, heads kept",
        fork_control_stolen,
    ),
    (
        "fork one copy of the control log with a stolen key",
        fork_one_copy,
    ),
    (
        "sign the control log with another key, keys pinned",
        resign_control,
    ),
    (
        "change a vote and sign with another key, keys pinned",
        change_vote_other,
    ),
    (
        "change a vote and sign with a stolen key",
        change_vote_stolen,
    ),
    ("forge a decision with a stolen key", forge_decision),
    ("swap two checkpoints", swap_checkpoints),
];

/// A log, and the index of a record in it that cannot be another one.
fn covered_record(scene: &mut Scene) -> Option<(Target, usize)> {
    let target = scene.target();
    let covered = usize::try_from(scene.covered(target)).unwrap();
    (covered > 0).then(|| (target, scene.dice.below(covered)))
}

fn delete(scene: &mut Scene) -> Made {
    let (target, at) = covered_record(scene)?;
    // Without a checkpoint behind it, a copy without its last record is an older copy.
    if u64::try_from(at).unwrap() >= scene.kept(target) && at + 1 >= scene.log(target).leaves.len()
    {
        return None;
    }
    // The last of equal records, so that the log is another one.
    let leaves = &mut scene.log(target).leaves;
    let next = leaves.get(at + 1).cloned();
    if next.as_ref() == Some(&leaves[at]) {
        return None;
    }
    leaves.remove(at);
    Some(format!("{target:?} {at}"))
}

fn insert(scene: &mut Scene) -> Made {
    let (target, at) = covered_record(scene)?;
    let count = scene.log(target).leaves.len();
    let from = scene.dice.below(count);
    let leaves = &mut scene.log(target).leaves;
    let new = altered(&leaves[from]);
    leaves.insert(at, new);
    Some(format!("{target:?} {at}"))
}

fn swap(scene: &mut Scene) -> Made {
    let (target, at) = covered_record(scene)?;
    let count = scene.log(target).leaves.len();
    let other = scene.dice.below(count);
    let leaves = &mut scene.log(target).leaves;
    if leaves[at] == leaves[other] {
        return None;
    }
    leaves.swap(at, other);
    Some(format!("{target:?} {at} {other}"))
}

fn alter(scene: &mut Scene) -> Made {
    let (target, at) = covered_record(scene)?;
    let leaves = &mut scene.log(target).leaves;
    leaves[at] = altered(&leaves[at]);
    Some(format!("{target:?} {at}"))
}

fn cut_records(scene: &mut Scene) -> Made {
    let target = scene.target();
    let kept = usize::try_from(scene.kept(target)).unwrap();
    if kept == 0 {
        return None;
    }
    let left = scene.dice.below(kept);
    let log = scene.log(target);
    // An empty control log is no log that could be read.
    log.leaves.truncate(left);
    log.pruned = log.pruned.min(u64::try_from(left).unwrap() / 256 * 256);
    Some(format!("{target:?} to {left}"))
}

fn cut_cleanly(scene: &mut Scene) -> Made {
    let at = scene.dice.below(scene.cluster.starts.len());
    let anchored = scene.cluster.starts[at].anchored;
    older(scene, Target::Decision(at), anchored)
}

/// The log as it was before it had `size` records.
fn older(scene: &mut Scene, target: Target, size: u64) -> Made {
    if size == 0 {
        return None;
    }
    let left = u64::try_from(scene.dice.below(usize::try_from(size).unwrap())).unwrap();
    let log = scene.log(target);
    *log = log.prefix(left);
    log.pruned = log.pruned.min(left / 256 * 256);
    Some(format!("{target:?} to {left}"))
}

fn old_control(scene: &mut Scene) -> Made {
    scene.given = everything(&scene.cluster);
    let size = usize::try_from(scene.cluster.head_size()).unwrap();
    let left = u64::try_from(1 + scene.dice.below(size)).unwrap();
    if left >= scene.cluster.head_size() {
        return None;
    }
    for copy in &mut scene.copies {
        let left = left.min(copy.size());
        *copy = copy.prefix(left);
    }
    Some(format!("to {left}"))
}

fn old_decisions(scene: &mut Scene) -> Made {
    let at = scene.dice.below(scene.cluster.starts.len());
    let start = &scene.cluster.starts[at];
    // A state that was signed once.
    let signed: Vec<u64> = start.log.notes.iter().map(|(size, _)| *size).collect();
    let earlier: Vec<u64> = signed
        .into_iter()
        .filter(|size| *size < start.anchored)
        .collect();
    if earlier.is_empty() {
        return None;
    }
    let left = *scene.dice.pick(&earlier);
    let log = scene.log(Target::Decision(at));
    *log = log.prefix(left);
    log.pruned = log.pruned.min(left / 256 * 256);
    Some(format!("{at} to {left}"))
}

fn fork_decisions_stolen(scene: &mut Scene) -> Made {
    let at = scene.dice.below(scene.cluster.starts.len());
    let anchored = usize::try_from(scene.cluster.starts[at].anchored).unwrap();
    if anchored == 0 {
        return None;
    }
    let from = scene.dice.below(anchored);
    let start = &mut scene.cluster.starts[at];
    start.log.leaves[from..]
        .iter_mut()
        .for_each(|leaf| *leaf = altered(leaf));
    let signer = start.signer.clone();
    start.log.sign_again(|_| signer.clone());
    Some(format!("{at} from {from}"))
}

fn fork_decisions_other(scene: &mut Scene) -> Made {
    let at = scene.dice.below(scene.cluster.starts.len());
    let name = scene.cluster.starts[at].signer.verifier().name().to_owned();
    let other = signer(&name, &mut scene.dice);
    let log = &mut scene.cluster.starts[at].log;
    let with_key = scene.dice.percent(50);
    if log.notes.is_empty() && !with_key {
        return None;
    }
    if let Some(last) = log.leaves.last_mut() {
        *last = altered(last);
    }
    if with_key {
        log.key_lines = format!("{}\n", other.verifier());
    }
    log.sign_again(|_| other.clone());
    Some(format!("{at}, its file of keys too: {with_key}"))
}

fn fork_control_stolen(scene: &mut Scene) -> Made {
    scene.given = everything(&scene.cluster);
    let head = usize::try_from(scene.cluster.head_size()).unwrap();
    let first = first_free(&scene.cluster.control)?;
    if first >= head {
        return None;
    }
    let from = first + scene.dice.below(head - first);
    let mut control = scene.cluster.control.clone();
    // Keys stay as they are: a stolen key is used, not a new one.
    for leaf in control.leaves[from..]
        .iter_mut()
        .filter(|leaf| !is_key(leaf))
    {
        *leaf = altered(leaf);
    }
    if control.leaves[..head] == scene.cluster.control.leaves[..head] {
        return None;
    }
    sign_control(scene, control);
    Some(format!("from {from}"))
}

fn is_key(leaf: &[u8]) -> bool {
    matches!(decode(leaf).what, Some(record::What::KeyAdded(_)))
}

/// The first record that adds no key.
fn first_free(control: &Log) -> Option<usize> {
    control.leaves.iter().position(|leaf| !is_key(leaf))
}

/// Lets every copy be `control`, signed with the cluster's own keys.
fn sign_control(scene: &mut Scene, mut control: Log) {
    let cluster = scene.cluster.clone();
    control.sign_again(|size| cluster.signer(size));
    scene.cluster.control = control;
    scene.copies = (0..cluster.copies.len())
        .map(|at| scene.cluster.copy(at))
        .collect();
}

fn fork_one_copy(scene: &mut Scene) -> Made {
    if scene.copies.len() < 2 {
        return None;
    }
    let at = scene.dice.below(scene.copies.len());
    let shared = scene.covered_by_others(at);
    let first = first_free(&scene.copies[at])?;
    if first >= shared {
        return None;
    }
    let from = first + scene.dice.below(shared - first);
    let copy = &mut scene.copies[at];
    let before = copy.leaves.clone();
    for leaf in copy.leaves[from..].iter_mut().filter(|leaf| !is_key(leaf)) {
        *leaf = altered(leaf);
    }
    if before[..shared] == copy.leaves[..shared] {
        return None;
    }
    let cluster = scene.cluster.clone();
    scene.copies[at].sign_again(|size| cluster.signer(size));
    Some(format!("{at} from {from}"))
}

impl Scene {
    fn covered_by_others(&self, at: usize) -> usize {
        let others = (0..self.copies.len()).filter(|other| *other != at);
        let sizes = others.map(|other| self.copies[other].leaves.len());
        sizes.max().unwrap_or(0).min(self.copies[at].leaves.len())
    }

    /// A key of the same name that nobody pinned, as the first of the log.
    fn other_key(&mut self) -> SignerKey {
        let name = self.cluster.control.origin.clone();
        signer(&name, &mut self.dice)
    }
}

/// Rewrites the whole control log under another key.
fn under(scene: &mut Scene, mut control: Log, key: &SignerKey) {
    scene.given = Given {
        keys: vec![scene.cluster.pinned()],
        heads: None,
    };
    let added = key_added(key, None).unwrap();
    let at_us = decode(&control.leaves[0]).at_us;
    control.leaves[0] = encode_control(at_us, record::What::KeyAdded(added));
    for at in 1..control.leaves.len() {
        // The keys that came later are the forger's too.
        if is_key(&control.leaves[at]) {
            let name = control.origin.clone();
            let later = signer(&name, &mut scene.dice);
            let added = key_added(&later, Some(key)).unwrap();
            control.leaves[at] = encode_control(1, record::What::KeyAdded(added));
        }
    }
    control.key_lines = format!("{}\n", key.verifier());
    control.sign_again(|_| key.clone());
    scene.cluster.control = control;
    scene.copies = (0..scene.copies.len())
        .map(|at| scene.cluster.copy(at))
        .collect();
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "another change may not be possible"
)]
fn resign_control(scene: &mut Scene) -> Made {
    let key = scene.other_key();
    let control = scene.cluster.control.clone();
    under(scene, control, &key);
    Some(String::new())
}

fn change_vote_other(scene: &mut Scene) -> Made {
    let mut control = scene.cluster.control.clone();
    let (what, at) = break_rules(&mut control.leaves, &mut scene.dice)?;
    let key = scene.other_key();
    under(scene, control, &key);
    Some(format!("{what} at {at}"))
}

/// Nothing from outside is needed: the rules of approvals do not hold any more.
fn change_vote_stolen(scene: &mut Scene) -> Made {
    scene.given = Given::default();
    let mut control = scene.cluster.control.clone();
    let (what, at) = break_rules(&mut control.leaves, &mut scene.dice)?;
    // Records moved, so the keys that came later sign later or earlier.
    if control.leaves.len() != scene.cluster.control.leaves.len() && scene.cluster.keys.len() > 1 {
        return None;
    }
    sign_control(scene, control);
    let longest = scene.copies.iter().map(Log::size).max()?;
    (u64::try_from(at).unwrap() < longest).then(|| format!("{what} at {at}"))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "another change may not be possible"
)]
fn forge_decision(scene: &mut Scene) -> Made {
    let at = scene.dice.below(scene.cluster.starts.len());
    let forged = forged_decision(&mut scene.dice);
    let start = &mut scene.cluster.starts[at];
    start.log.leaves.push(forged);
    start.log.sign(&start.signer.clone());
    Some(format!(
        "{at}, {:?}",
        scene.cluster.starts[at].end == End::Running
    ))
}

fn swap_checkpoints(scene: &mut Scene) -> Made {
    let target = scene.target();
    let notes = scene.log(target).notes.len();
    if notes < 2 {
        return None;
    }
    let at = scene.dice.below(notes - 1);
    scene.log(target).notes.swap(at, at + 1);
    Some(format!("{target:?} {at}"))
}
