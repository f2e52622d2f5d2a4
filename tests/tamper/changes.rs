//! One change to what a cluster left, made as somebody would make it.

use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::files::{self, Place};
use crate::lives::random::dice::Dice;
use crate::log::Log;
use crate::logical::LOGICAL;
use crate::{Given, everything};

/// A change that was made.
pub(crate) struct Change {
    pub(crate) kind: &'static str,
    pub(crate) what: String,
    pub(crate) folders: Vec<PathBuf>,
    /// What it must be found with.
    pub(crate) given: Given,
}

/// One of a cluster's logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A replica's copy of the control log.
    Control(usize),
    /// A decision log.
    Decision(usize),
}

/// A cluster that is being changed. Copies of the control log are changed one by one.
pub(crate) struct Scene {
    pub(crate) dice: Dice,
    pub(crate) cluster: Cluster,
    pub(crate) copies: Vec<Log>,
    pub(crate) given: Given,
}

impl Scene {
    fn new(cluster: &Cluster, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let given = if dice.percent(50) {
            everything(cluster)
        } else {
            Given::default()
        };
        Self {
            dice,
            copies: (0..cluster.copies.len())
                .map(|replica| cluster.copy(replica))
                .collect(),
            cluster: cluster.clone(),
            given,
        }
    }

    pub(crate) fn target(&mut self) -> Target {
        let copies = self.copies.len();
        match self.dice.below(copies + self.cluster.starts.len()) {
            at if at < copies => Target::Control(at),
            at => Target::Decision(at - copies),
        }
    }

    pub(crate) fn log(&mut self, target: Target) -> &mut Log {
        match target {
            Target::Control(at) => &mut self.copies[at],
            Target::Decision(at) => &mut self.cluster.starts[at].log,
        }
    }

    /// Below which index no record can be lost from the end of the log.
    pub(crate) fn kept(&self, target: Target) -> u64 {
        match target {
            Target::Control(at) => {
                let is_only = self.copies.len() == 1 && self.given.heads.is_some();
                let heads = if is_only { self.cluster.head_size() } else { 0 };
                self.copies[at].signed().max(heads)
            }
            Target::Decision(at) => {
                let start = &self.cluster.starts[at];
                start.log.signed().max(start.anchored)
            }
        }
    }

    /// Below which index no record can be another one.
    pub(crate) fn covered(&self, target: Target) -> u64 {
        let Target::Control(at) = target else {
            return self.kept(target);
        };
        let size = self.copies[at].size();
        let others = (0..self.copies.len()).filter(|other| *other != at);
        let shared = others.map(|other| self.copies[other].size().min(size));
        shared.max().unwrap_or(0).max(self.kept(target))
    }

    /// Writes everything.
    fn write(&self, root: &Path) -> Vec<PathBuf> {
        let folders: Vec<PathBuf> = (0..self.copies.len())
            .map(|at| root.join(format!("replica-{at}")))
            .collect();
        for (copy, folder) in self.copies.iter().zip(&folders) {
            copy.write(&folder.join("control"));
        }
        for start in &self.cluster.starts {
            start.log.write(
                &folders[start.replica]
                    .join("decision")
                    .join(&start.incarnation),
            );
        }
        folders
    }

    /// The place of a log below `root`.
    fn folder(&self, root: &Path, target: Target) -> PathBuf {
        match target {
            Target::Control(at) => root.join(format!("replica-{at}")).join("control"),
            Target::Decision(at) => {
                let start = &self.cluster.starts[at];
                let replica = root.join(format!("replica-{}", start.replica));
                replica.join("decision").join(&start.incarnation)
            }
        }
    }

    fn place(&mut self, root: &Path) -> Place {
        let target = self.target();
        let kept = self.kept(target);
        Place {
            folder: self.folder(root, target),
            kept,
        }
    }
}

pub(crate) type Made = Option<String>;

/// A change to the logs before they are written.
pub(crate) type Logical = fn(&mut Scene) -> Made;
/// A change to the files that were written.
type Physical = fn(&mut Dice, &Place) -> Made;

const PHYSICAL: [(&str, Physical, usize); 3] = [
    ("flip a bit", files::flip, 30),
    ("cut off a file", files::cut, 8),
    ("drop a segment", files::drop_segment, 6),
];

/// Makes one change to what `cluster` left, below `root`; nothing if the one that was drawn cannot be made here.
pub(crate) fn change(cluster: &Cluster, seed: u64, root: &Path) -> Option<Change> {
    let mut scene = Scene::new(cluster, seed);
    let weights: Vec<usize> = PHYSICAL
        .iter()
        .map(|each| each.2)
        .chain([5, 4, 4 * LOGICAL.len()])
        .collect();
    let (kind, what, folders) = match scene.dice.weighted(&weights) {
        drawn if drawn < PHYSICAL.len() => {
            let (kind, make, _) = PHYSICAL[drawn];
            let folders = scene.write(root);
            let place = scene.place(root);
            (kind, make(&mut scene.dice, &place)?, folders)
        }
        3 => (
            "drop a log or a replica",
            String::new(),
            drop_folder(&mut scene, root),
        ),
        4 => (
            "swap two decision logs",
            String::new(),
            swap_folders(&mut scene, root)?,
        ),
        _ => {
            let (kind, make) = *scene.dice.pick(&LOGICAL);
            let what = make(&mut scene)?;
            (kind, what, scene.write(root))
        }
    };
    Some(Change {
        kind,
        what,
        folders,
        given: scene.given,
    })
}

/// Takes away a whole decision log, or a whole replica that has one.
fn drop_folder(scene: &mut Scene, root: &Path) -> Vec<PathBuf> {
    let mut folders = scene.write(root);
    let at = scene.dice.below(scene.cluster.starts.len());
    let replica = scene.cluster.starts[at].replica;
    if scene.dice.percent(50) && folders.len() > 1 {
        folders.remove(replica);
    } else {
        std::fs::remove_dir_all(scene.folder(root, Target::Decision(at))).unwrap();
    }
    folders
}

fn swap_folders(scene: &mut Scene, root: &Path) -> Option<Vec<PathBuf>> {
    let starts = scene.cluster.starts.len();
    if starts < 2 {
        return None;
    }
    let folders = scene.write(root);
    let at = scene.dice.below(starts);
    let other = (at + 1) % starts;
    let [one, two] = [at, other].map(|at| scene.folder(root, Target::Decision(at)));
    let aside = root.join("aside");
    std::fs::rename(&one, &aside).unwrap();
    std::fs::rename(&two, &one).unwrap();
    std::fs::rename(&aside, &two).unwrap();
    Some(folders)
}
