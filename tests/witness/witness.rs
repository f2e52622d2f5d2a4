//! A witness over HTTP: what the specification demands, and what one does that lies.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use countersign::audit::checkpoint::Checkpoint;
use countersign::audit::cosignature::CosignerKey;
use countersign::audit::note::{Note, VerifierKey};
use countersign::audit::proof::verify_consistency;
use countersign::audit::tree::{EMPTY_ROOT, TreeHash};
use countersign::channel::{Hidden, Witness, WitnessUrl};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::http;
use crate::log::ORIGIN;

pub(crate) const NAME: &str = "witness.example/w1";
pub(crate) const TIME: u64 = 1_679_315_147;
const SIZE: &str = "text/x.tlog.size";

/// How a witness answers what it has accepted.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Honest,
    /// Its own line stands between those of others.
    WithStrangers,
    /// Signs with a key that is not its own, under its own name and id.
    WrongKey,
    /// Signs a checkpoint that nobody asked about.
    OtherCheckpoint,
    /// Says another time than it signed.
    OtherTime,
    /// Signs as a log would, without a time.
    PlainNote,
    /// Answers only with the lines of others.
    OnlyStrangers,
    /// Answers with the checkpoint itself.
    Echo,
    /// Names the size with every refusal by 409.
    SizeOnFork,
}

/// A secret key with the name under which it cosigns. Written here once more, with `signed_note`'s id and line.
pub(crate) struct Cosigner {
    pub(crate) name: String,
    key: SigningKey,
}

impl Cosigner {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let name = name.to_owned();
        Self { name, key }
    }

    pub(crate) fn id(&self) -> u32 {
        let public = self.key.verifying_key();
        signed_note::key_id(&self.name, &[&[4], &public.as_bytes()[..]].concat())
    }

    pub(crate) fn key(&self) -> CosignerKey {
        CosignerKey::from_public_key(&self.name, self.key.verifying_key().as_bytes()).unwrap()
    }

    /// Its line under `text`, with the newline.
    pub(crate) fn line(&self, time: u64, text: &str) -> String {
        let message = format!("cosignature/v1\ntime {time}\n{text}");
        self.line_of(
            time,
            self.key.sign(message.as_bytes()).to_bytes().as_slice(),
        )
    }

    pub(crate) fn line_of(&self, time: u64, signature: &[u8]) -> String {
        let bytes = [&time.to_be_bytes()[..], signature].concat();
        let signature = signed_note::Signature::new(self.name.clone(), self.id(), bytes).unwrap();
        String::from_utf8(signature.to_bytes())
            .unwrap()
            .trim_end()
            .to_owned()
            + "\n"
    }
}

pub(crate) struct State {
    pub(crate) size: u64,
    pub(crate) root: TreeHash,
    pub(crate) manner: Manner,
    pub(crate) origin: String,
    log: VerifierKey,
    /// What was asked, and the status it was answered with: from which size, to which.
    asked: Vec<(u64, u64, u16)>,
}

pub(crate) struct TestWitness {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl TestWitness {
    pub(crate) fn start(log: VerifierKey) -> Self {
        let state = Arc::new(Mutex::new(State {
            size: 0,
            root: EMPTY_ROOT,
            manner: Manner::Honest,
            origin: ORIGIN.to_owned(),
            log,
            asked: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        let port = http::start(move |request, stream| {
            assert_eq!(request.head[0], "POST /sub/add-checkpoint HTTP/1.1");
            let mut state = shared.lock().unwrap();
            let (status, kind, body) = state.add_checkpoint(&request.body);
            drop(stream.write_all(http::answer(status, kind, &body).as_bytes()));
        });
        Self { port, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What was asked since this was called last.
    pub(crate) fn asked(&self) -> Vec<(u64, u64, u16)> {
        std::mem::take(&mut self.state().asked)
    }

    pub(crate) fn prefix(&self) -> String {
        format!("http://127.0.0.1:{}/sub/", self.port)
    }

    pub(crate) fn client(&self) -> Witness {
        client(&self.prefix())
    }
}

pub(crate) fn client(prefix: &str) -> Witness {
    let url = WitnessUrl::parse(&Hidden::from(prefix.to_owned())).unwrap();
    Witness::new("w1", url, Cosigner::new(NAME, 9).key()).unwrap()
}

impl State {
    fn add_checkpoint(&mut self, body: &str) -> (u16, &'static str, String) {
        let (old, proof, note) = read(body);
        let note = Note::parse(note).unwrap();
        let checkpoint = Checkpoint::parse(note.text()).unwrap();
        let size = checkpoint.size();
        let (status, kind, answer) = self.judge(old, &proof, &note, &checkpoint);
        self.asked.push((old, size, status));
        if status == 200 {
            (self.size, self.root) = (size, *checkpoint.root());
        }
        (status, kind, answer)
    }

    fn judge(
        &self,
        old: u64,
        proof: &[TreeHash],
        note: &Note,
        checkpoint: &Checkpoint,
    ) -> (u16, &'static str, String) {
        let no = |status| (status, "text/plain", "no\n".to_owned());
        let (size, root) = (checkpoint.size(), checkpoint.root());
        if checkpoint.origin() != self.origin {
            return no(404);
        }
        let signed = note.verified_by(std::slice::from_ref(&self.log));
        if signed.is_ok_and(|signed| signed.is_empty()) {
            return no(403);
        }
        if old > size {
            return no(400);
        }
        let is_other = old == size && *root != self.root;
        if old != self.size || is_other && self.manner == Manner::SizeOnFork {
            return (409, SIZE, format!("{}\n", self.size));
        }
        if is_other {
            return no(409);
        }
        if verify_consistency(old, size, proof, &self.root, root).is_err() {
            return no(422);
        }
        (200, "text/plain; charset=utf-8", self.sign(note))
    }

    fn sign(&self, note: &Note) -> String {
        let text = note.text();
        let own = Cosigner::new(NAME, 9);
        let stranger = Cosigner::new("stranger.example", 8).line(TIME, text);
        let namesake = Cosigner::new(NAME, 8).line(TIME, text);
        let liar = Cosigner::new(NAME, 7).key;
        let right = own.line(TIME, text);
        match self.manner {
            Manner::Honest | Manner::SizeOnFork => right,
            Manner::WithStrangers => format!("{stranger}no line\n{right}\n{namesake}"),
            Manner::WrongKey => own.line_of(TIME, &liar.sign(text.as_bytes()).to_bytes()),
            Manner::OtherCheckpoint => own.line(TIME, &text.replacen("prod", "test", 1)),
            Manner::OtherTime => {
                let message = format!("cosignature/v1\ntime {TIME}\n{text}");
                own.line_of(TIME + 1, &own.key.sign(message.as_bytes()).to_bytes())
            }
            Manner::PlainNote => {
                let signature = own.key.sign(text.as_bytes()).to_bytes().to_vec();
                let line = signed_note::Signature::new(NAME.to_owned(), own.id(), signature);
                String::from_utf8(line.unwrap().to_bytes()).unwrap()
            }
            Manner::OnlyStrangers => format!("{stranger}{namesake}"),
            Manner::Echo => note.to_string(),
        }
    }
}

/// The parts of a request: the old size, the proof, the note.
fn read(body: &str) -> (u64, Vec<TreeHash>, &str) {
    let (head, note) = body.split_once("\n\n").unwrap();
    let mut lines = head.split('\n');
    let old = lines.next().unwrap().strip_prefix("old ").unwrap();
    let number: u64 = old.parse().unwrap();
    assert_eq!(number.to_string(), old);
    let proof: Vec<TreeHash> = lines
        .map(|line| TreeHash::from_base64(line).unwrap())
        .collect();
    assert!(proof.len() <= 63 && (number > 0 || proof.is_empty()));
    (number, proof, note)
}
