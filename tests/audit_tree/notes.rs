//! Notes, keys and checkpoints pass from ours to `signed_note` and `tlog_tiles` and back.

use countersign::audit::checkpoint::{Checkpoint, CheckpointError};
use countersign::audit::note::{
    KeyError, MAX_SIGNATURES, MAX_TEXT_BYTES, Note, NoteError, SignerKey, VerifierKey,
};
use countersign::audit::tree::leaf_hash;
use proptest::prelude::*;
use signed_note::{StandardSigner, StandardVerifier, VerifierList};

const ORIGIN: &str = "prod/decision/0198c0de-7000-7abc-8def-0123456789ab";

fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey::from_seed(name, &[seed; 32]).unwrap()
}

fn keys(signers: &[&SignerKey]) -> Vec<VerifierKey> {
    let keys = signers.iter().map(|signer| signer.verifier().clone());
    keys.collect()
}

fn their_verifiers(keys: &[VerifierKey]) -> VerifierList {
    let verifier = |key: &VerifierKey| StandardVerifier::new(&key.to_string()).unwrap();
    let boxed = keys
        .iter()
        .map(|key| Box::new(verifier(key)) as Box<dyn signed_note::Verifier>);
    VerifierList::new(boxed.collect())
}

fn their_note(text: &str, signers: &[&SignerKey]) -> String {
    let mut note = signed_note::Note::new(text.as_bytes(), &[]).unwrap();
    for signer in signers {
        let signer = StandardSigner::new(&signer.to_text()).unwrap();
        note.add_sigs(&[&signer]).unwrap();
    }
    String::from_utf8(note.to_bytes()).unwrap()
}

/// The example of `signed_note`'s and Go's documentation.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETERS_SECRET: &str =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PETERS_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
     then you don't know what your problem is.\n\
     \n\
     — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn the_published_example_is_written_and_believed() {
    let signer = SignerKey::from_text(PETERS_SECRET).unwrap();
    assert_eq!(signer.to_text(), PETERS_SECRET);
    assert_eq!(signer.verifier().to_string(), PETER);
    let key: VerifierKey = PETER.parse().unwrap();
    let note = Note::parse(PETERS_NOTE).unwrap();
    assert_eq!(note.verified_by(std::slice::from_ref(&key)), Ok(vec![&key]));
    let again = Note::sign(note.text(), &[&signer]).unwrap();
    assert_eq!(again.to_string(), PETERS_NOTE);
}

#[test]
fn key_texts_are_the_same() {
    for seed in 0..=255 {
        for name in ["a", ORIGIN, "größe/日本", "log.example/x-y_z"] {
            let ours = signer(name, seed);
            let public = ours.verifier().public_key();
            let id = signed_note::key_id(name, &[&[1], &public[..]].concat());
            assert_eq!(ours.verifier().key_id(), id);
            let theirs = StandardSigner::new(&ours.to_text()).unwrap();
            assert_eq!(signed_note::Signer::key_id(&theirs), id);
            StandardVerifier::new(&ours.verifier().to_string()).unwrap();
            let read: VerifierKey = ours.verifier().to_string().parse().unwrap();
            assert_eq!(&read, ours.verifier());
        }
    }
    // The public half as signed_note derives it: its signature is accepted by the vkey we wrote.
    let ours = signer(ORIGIN, 7);
    let theirs = StandardSigner::new(&ours.to_text()).unwrap();
    let signature = signed_note::Signer::sign(&theirs, b"text\n").unwrap();
    assert!(ours.verifier().accepts("text\n", &signature));
}

#[test]
fn notes_pass_both_ways() {
    let texts = [
        "\n",
        "a\n",
        "a\n\nb\n",
        "\n\n\n",
        "— a AAAA\n\n— b AAAA\n",
        "größe\u{7f}\u{85}\n",
    ];
    let (one, two) = (signer(ORIGIN, 1), signer("witness", 2));
    for text in texts {
        for signers in [&[&one][..], &[&one, &two], &[&two, &one]] {
            let note = Note::sign(text, signers).unwrap();
            assert_eq!(note.to_string(), their_note(text, signers), "{text:?}");
            let theirs = signed_note::Note::from_bytes(note.to_string().as_bytes()).unwrap();
            assert_eq!(theirs.text(), text.as_bytes());
            let all = keys(signers);
            let (verified, unverified) = theirs.verify(&their_verifiers(&all)).unwrap();
            assert_eq!((verified.len(), unverified.len()), (signers.len(), 0));

            let back = Note::parse(&their_note(text, signers)).unwrap();
            assert_eq!(back, note);
            assert_eq!(back.verified_by(&all), Ok(all.iter().collect()));
            assert_eq!(back.verified_by(&[]), Ok(vec![]));
        }
    }
}

#[test]
fn a_known_key_with_a_wrong_signature_spoils_the_note() {
    let (one, two) = (signer("one", 1), signer("two", 2));
    let note = Note::sign("text\n", &[&one, &two]).unwrap().to_string();
    let forged = Note::parse(&note.replacen("text", "tex!", 1)).unwrap();
    let wrong = |name: &str, key_id| NoteError::WrongSignature {
        name: name.to_owned(),
        key_id,
    };
    let id = two.verifier().key_id();
    assert_eq!(forged.verified_by(&keys(&[&two])), Err(wrong("two", id)));
    // A key of the same name and another id, or the other way round, says nothing.
    let stranger = keys(&[&signer("two", 3), &signer("three", 2)]);
    assert_eq!(forged.verified_by(&stranger), Ok(vec![]));
    // One right signature does not make up for a wrong one of the same key.
    let real = Note::parse(&note).unwrap();
    let line = forged_line(&forged, "two");
    let doubled = Note::parse(&format!("{real}{line}\n")).unwrap();
    assert_eq!(doubled.verified_by(&keys(&[&two])).unwrap().len(), 1);
    let other = Note::sign("other\n", &[&two]).unwrap();
    let line = forged_line(&other, "two");
    let doubled = Note::parse(&format!("{real}{line}\n")).unwrap();
    assert_eq!(doubled.verified_by(&keys(&[&two])), Err(wrong("two", id)));
}

fn forged_line(note: &Note, name: &str) -> String {
    let found = note
        .signatures()
        .iter()
        .find(|signature| signature.name() == name);
    found.unwrap().to_string()
}

#[test]
fn each_bit_of_a_signature_counts() {
    let one = signer("one", 1);
    let note = Note::sign("text\n", &[&one]).unwrap();
    let signature = note.signatures()[0].bytes().to_vec();
    assert!(one.verifier().accepts("text\n", &signature));
    for bit in 0..512 {
        let mut wrong = signature.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(!one.verifier().accepts("text\n", &wrong), "{bit}");
    }
    assert!(!one.verifier().accepts("text\n", &signature[..63]));
    assert!(
        !one.verifier()
            .accepts("text\n", &[&signature[..], &[0]].concat())
    );
    assert!(!one.verifier().accepts("text", &signature));
}

#[test]
fn signing_again_replaces_and_the_limits_hold() {
    let signers: Vec<SignerKey> = (0..17).map(|seed| signer("name", seed)).collect();
    let all: Vec<&SignerKey> = signers.iter().collect();
    let mut note = Note::sign("text\n", &all[..MAX_SIGNATURES]).unwrap();
    let before = note.to_string();
    note.add(&signers[15]).unwrap();
    assert_eq!(note.to_string(), before);
    note.add(&signers[0]).unwrap();
    assert_eq!(note.signatures().len(), MAX_SIGNATURES);
    assert_eq!(note.add(&signers[16]), Err(NoteError::TooManySignatures));
    assert_eq!(
        Note::sign("text\n", &all),
        Err(NoteError::TooManySignatures)
    );
    let more = format!("{before}{}\n", forged_line(&note, "name"));
    assert_eq!(Note::parse(&more), Err(NoteError::TooManySignatures));

    let most = format!("{}\n", "a".repeat(MAX_TEXT_BYTES - 1));
    let note = Note::sign(&most, &all[..1]).unwrap();
    assert_eq!(Note::parse(&note.to_string()), Ok(note.clone()));
    assert_eq!(
        Note::sign(&format!("a{most}"), &all[..1]),
        Err(NoteError::TooLong)
    );
    assert_eq!(Note::parse(&format!("a{note}")), Err(NoteError::TooLong));
    assert_eq!(Note::sign("text\n", &[]), Err(NoteError::BadSignatures));
    for text in ["", "text", "a\rb\n", "a\tb\n", "\0\n"] {
        assert_eq!(
            Note::sign(text, &all[..1]),
            Err(NoteError::BadText),
            "{text:?}"
        );
    }
}

#[test]
fn keys_that_are_not_written_in_the_one_way_are_refused() {
    let is_err = |text: &str| text.parse::<VerifierKey>().unwrap_err();
    assert_eq!(is_err(""), KeyError::Malformed);
    assert_eq!(
        is_err(&PETER.replace("c74f20a3", "C74F20A3")),
        KeyError::Malformed
    );
    assert_eq!(
        is_err(&PETER.replace("c74f20a3", "+74f20a3")),
        KeyError::Malformed
    );
    assert_eq!(
        is_err(&PETER.replace("c74f20a3", "c74f20a")),
        KeyError::Malformed
    );
    assert_eq!(
        is_err(&PETER.replace("c74f20a3", "c74f20a4")),
        KeyError::WrongId
    );
    assert_eq!(is_err(&PETER.replace("Peter", "Paul")), KeyError::WrongId);
    assert_eq!(is_err(&PETER.replace("Peter", "Peter ")), KeyError::BadName);
    assert_eq!(
        is_err(&PETER.replace("PeterNeumann", "")),
        KeyError::BadName
    );
    assert_eq!(is_err(&PETER.replace("+AR", "+Ah")), KeyError::OtherKind(2));
    assert_eq!(is_err(PETER.trim_end_matches("10TW")), KeyError::Malformed);
    assert_eq!(is_err(&format!("{PETER}\n")), KeyError::Malformed);
    assert_eq!(is_err(PETERS_SECRET), KeyError::Malformed);
    let weak = VerifierKey::from_public_key("weak", &[0; 32]);
    assert_eq!(weak, Err(KeyError::Unusable));
    for name in ["", "a b", "a+b", "a\nb", "a\u{a0}b", "a\0"] {
        assert_eq!(
            SignerKey::from_seed(name, &[1; 32]).unwrap_err(),
            KeyError::BadName
        );
    }
    assert_eq!(
        SignerKey::from_text(PETER).unwrap_err(),
        KeyError::Malformed
    );
}

#[test]
fn a_secret_is_not_shown() {
    let signer = SignerKey::from_text(PETERS_SECRET).unwrap();
    assert_eq!(format!("{signer:?}"), format!("SignerKey({PETER})"));
}

#[test]
fn checkpoints_pass_both_ways() {
    let (log, witness) = (signer(ORIGIN, 1), signer("witness", 2));
    for size in [0, 1, 256, 1_234_567, u64::MAX] {
        let root = leaf_hash(&size.to_le_bytes());
        let ours = Checkpoint::new(ORIGIN, size, root).unwrap();
        let hash = tlog_tiles::Hash(*root.as_bytes());
        let theirs = tlog_tiles::Checkpoint::new(ORIGIN, size, hash, "").unwrap();
        assert_eq!(ours.to_text().as_bytes(), theirs.to_bytes());
        let read = tlog_tiles::Checkpoint::from_bytes(ours.to_text().as_bytes());
        assert_eq!(read.unwrap(), theirs);
        let note = ours.signed(&[&log, &witness]).unwrap().to_string();
        for keys in [keys(&[&log]), keys(&[&witness]), keys(&[&log, &witness])] {
            assert_eq!(Checkpoint::open(&note, ORIGIN, &keys), Ok(ours.clone()));
        }
        let extended = format!("{}more\nand more\n", ours.to_text());
        assert_eq!(Checkpoint::parse(&extended), Ok(ours.clone()));
        let note = their_note(&extended, &[&log]);
        assert_eq!(Checkpoint::open(&note, ORIGIN, &keys(&[&log])), Ok(ours));
    }
}

#[test]
fn a_checkpoint_is_believed_only_from_the_right_log_and_key() {
    let log = signer(ORIGIN, 1);
    let checkpoint = Checkpoint::new(ORIGIN, 5, leaf_hash(b"")).unwrap();
    let note = checkpoint.signed(&[&log]).unwrap().to_string();
    let known = keys(&[&log]);
    let other = CheckpointError::OtherOrigin {
        origin: ORIGIN.to_owned(),
    };
    assert_eq!(Checkpoint::open(&note, "prod/control", &known), Err(other));
    let strangers = keys(&[&signer(ORIGIN, 2)]);
    for keys in [&strangers[..], &[]] {
        let refused = Checkpoint::open(&note, ORIGIN, keys);
        assert_eq!(refused, Err(CheckpointError::NotSigned));
    }
    let forged = note.replacen("\n5\n", "\n6\n", 1);
    let refused = Checkpoint::open(&forged, ORIGIN, &known);
    assert!(matches!(
        refused,
        Err(CheckpointError::BadNote(NoteError::WrongSignature { .. }))
    ));
    let refused = Checkpoint::open(&checkpoint.to_text(), ORIGIN, &known);
    assert_eq!(
        refused,
        Err(CheckpointError::BadNote(NoteError::BadSignatures))
    );
    for origin in ["", "a\nb", "a\0"] {
        let refused = Checkpoint::new(origin, 5, leaf_hash(b""));
        assert_eq!(refused, Err(CheckpointError::BadOrigin));
    }
}

#[test]
fn checkpoints_are_refused_as_tlog_tiles_refuses_them() {
    let root = leaf_hash(b"").to_base64();
    let sizes = [
        "0",
        "1",
        "01",
        "00",
        "+1",
        "-1",
        "",
        " 1",
        "1 ",
        "0x1",
        "18446744073709551615",
        "18446744073709551616",
        "1.0",
    ];
    let roots = [
        root.clone(),
        root.replace('=', ""),
        format!("{root} "),
        String::new(),
        "AAAA".to_owned(),
        root.replace('b', "-"),
    ];
    let ends = [
        "\n", "", "\n\n", "\nx", "\nx\n", "\nx\n\n", "\n\nx\n", "\nx\ny\n",
    ];
    let (mut accepted, mut count) = (0, 0);
    for origin in ["log", "", " ", "a b+c"] {
        for (size, root, end) in all_of(&sizes, &roots, &ends) {
            let text = format!("{origin}\n{size}\n{root}{end}");
            let ours = Checkpoint::parse(&text).ok();
            let theirs = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).ok();
            let ours = ours.map(|it| (it.origin().to_owned(), it.size(), *it.root().as_bytes()));
            let theirs = theirs.map(|it| (it.origin().to_owned(), it.size(), it.hash().0));
            accepted += usize::from(ours.is_some());
            count += 1;
            assert_eq!(ours, theirs, "{text:?}");
        }
    }
    assert!(
        accepted > 0 && accepted < count / 4,
        "{accepted} of {count}"
    );
}

fn all_of<'t>(
    sizes: &'t [&str],
    roots: &'t [String],
    ends: &'t [&str],
) -> impl Iterator<Item = (&'t str, &'t str, &'t str)> {
    sizes.iter().flat_map(move |size| {
        let with = move |root: &'t String| ends.iter().map(move |end| (*size, root.as_str(), *end));
        roots.iter().flat_map(with)
    })
}

fn accepted_by_both(note: &str) {
    let ours = Note::parse(note);
    let theirs = signed_note::Note::from_bytes(note.as_bytes());
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.text().as_bytes(), theirs.text(), "{note:?}");
            assert_eq!(ours.to_string(), note);
        }
        (Err(_), Err(_)) => {}
        _ => {
            // Ours also refuses control characters beyond ASCII in names.
            let has_control = note.contains(|c: char| c.is_control() && c != '\n');
            assert!(ours.is_err() && has_control, "{note:?}: {ours:?}");
        }
    }
}

#[test]
fn a_signature_counts_for_the_name_it_gives() {
    let one = signer("one", 1);
    let note = Note::sign("text\n", &[&one]).unwrap().to_string();
    let renamed = Note::parse(&note.replace("— one ", "— two ")).unwrap();
    assert_eq!(renamed.signatures()[0].key_id(), one.verifier().key_id());
    assert_eq!(renamed.verified_by(&keys(&[&one])), Ok(vec![]));
}

#[test]
fn a_signature_line_has_an_id_and_something_behind_it() {
    for base64 in [
        "", "AAAA", "AAAAAA==", "AAAAAAA=", "AAAAAAAA", "AAAAAAB=", "AAAAAAA",
    ] {
        accepted_by_both(&format!("text\n\n— one {base64}\n"));
    }
    let short = Note::parse("text\n\n— one AAAAAA==\n");
    assert_eq!(short, Err(NoteError::BadSignatures));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn notes_with_something_changed_are_read_alike(
        at in any::<prop::sample::Index>(), with in "[\n\r\t A=+/—\u{0}\u{7f}\u{a0}é]{0,2}", cut in 0_usize..3,
    ) {
        let signers = [&signer("one", 1), &signer("two", 2)];
        let chars: Vec<char> = Note::sign("a\n\nb\n", &signers[..]).unwrap().to_string().chars().collect();
        let at = at.index(chars.len());
        let behind = chars.len().min(at + cut);
        let changed: String = chars[..at].iter().copied().chain(with.chars()).chain(chars[behind..].iter().copied()).collect();
        accepted_by_both(&changed);
    }

    #[test]
    fn any_text_is_a_note_for_both_or_for_none(note in "[a\n]{0,3}\n\n(— [a-c +]{0,3} [A-Za-z0-9+/]{0,8}={0,2}\n){0,3}\n?") {
        accepted_by_both(&note);
    }
}
