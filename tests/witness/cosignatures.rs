//! Cosignatures beside others': one that a public witness made, and `signed_note`'s ids and lines.

use countersign::audit::cosignature::{CosignatureError, CosignerKey, add_cosignature};
use countersign::audit::note::{MAX_SIGNATURES, Note, SignerKey, VerifierKey};
use proptest::prelude::*;

use crate::witness::{Cosigner, NAME, TIME};

/// A checkpoint of a public log, as five public witnesses cosigned it.
const PUBLISHED: &str = "arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
";
const REMORA: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
const LOG: &str =
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
const PUBLISHED_TIME: u64 = 0x6a12_2120;
const TEXT: &str = "prod/control\n5\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n";

fn log() -> SignerKey {
    SignerKey::from_seed("prod/control", &[1; 32]).unwrap()
}

fn signature_of(line: &str) -> countersign::audit::note::NoteSignature {
    Note::parse(&format!("-\n\n{line}")).unwrap().signatures()[0].clone()
}

#[test]
fn what_a_public_witness_signed_is_believed() {
    let key: CosignerKey = REMORA.parse().unwrap();
    assert_eq!(key.to_string(), REMORA);
    assert_eq!((key.name(), key.key_id()), ("remora.n621.de", 0xda77_ade7));
    let note = Note::parse(PUBLISHED).unwrap();
    let times: Vec<Option<u64>> = note
        .signatures()
        .iter()
        .map(|signature| key.verify(signature, note.text()))
        .collect();
    assert_eq!(times, [None, None, None, None, Some(PUBLISHED_TIME), None]);
    let log: VerifierKey = LOG.parse().unwrap();
    assert_eq!(note.verified_by(std::slice::from_ref(&log)), Ok(vec![&log]));
    // Found again among the lines of an answer, and put where it stood.
    let (text, lines) = PUBLISHED.split_once("\n\n").unwrap();
    let by_log: String = lines.split_inclusive('\n').take(2).collect();
    let note = Note::parse(&format!("{text}\n\n{by_log}")).unwrap();
    let cosigned = add_cosignature(&note, lines, &key).unwrap();
    let line = lines.split_inclusive('\n').nth(4).unwrap();
    assert_eq!(cosigned.to_string(), format!("{note}{line}"));
}

#[test]
fn ids_and_lines_are_those_of_signed_note() {
    for (name, seed) in [("w", 1), (NAME, 2), ("witness.example/ü", 3)] {
        let cosigner = Cosigner::new(name, seed);
        let key = cosigner.key();
        assert_eq!(key.key_id(), cosigner.id());
        assert_eq!(key.to_string().parse::<CosignerKey>(), Ok(key.clone()));
        let line = cosigner.line(TIME, TEXT);
        let signature = signature_of(&line);
        assert_eq!(format!("{signature}\n"), line);
        assert_eq!(signature.bytes().len(), 8 + 64);
        assert_eq!(key.verify(&signature, TEXT), Some(TIME));
        // The id alone names nobody.
        let bytes = signature.bytes().to_vec();
        let other = signed_note::Signature::new("other".to_owned(), key.key_id(), bytes);
        let other = String::from_utf8(other.unwrap().to_bytes()).unwrap();
        let other = signature_of(&format!("{}\n", other.trim_end()));
        assert!(!key.is_named_by(&other));
        assert_eq!(key.verify(&other, TEXT), None);
        // A key for notes with the same name and bytes is another key.
        let plain = VerifierKey::from_public_key(name, key.public_key()).unwrap();
        assert_ne!(plain.key_id(), key.key_id());
        assert!(plain.to_string().parse::<CosignerKey>().is_err());
        assert!(key.to_string().parse::<VerifierKey>().is_err());
    }
}

#[test]
fn a_time_has_its_limit() {
    let cosigner = Cosigner::new(NAME, 9);
    let limit = i64::MAX.unsigned_abs();
    for (time, is_right) in [
        (0, true),
        (1, true),
        (limit, true),
        (limit + 1, false),
        (u64::MAX, false),
    ] {
        let signature = signature_of(&cosigner.line(time, TEXT));
        let expected = is_right.then_some(time);
        assert_eq!(cosigner.key().verify(&signature, TEXT), expected);
    }
}

#[test]
fn of_several_lines_the_latest_stands_once() {
    let cosigner = Cosigner::new(NAME, 9);
    let (key, signer) = (cosigner.key(), log());
    let note = Note::sign(TEXT, &[&signer]).unwrap();
    let [first, last] = [TIME, TIME + 60].map(|time| cosigner.line(time, TEXT));
    for lines in [
        format!("{first}{last}"),
        format!("{last}{first}"),
        format!("{first}{last}{last}"),
    ] {
        let cosigned = add_cosignature(&note, &lines, &key).unwrap();
        assert_eq!(cosigned.to_string(), format!("{note}{last}"));
        // A later one takes the place of an earlier one.
        let later = cosigner.line(TIME + 120, TEXT);
        let again = add_cosignature(&cosigned, &later, &key).unwrap();
        assert_eq!(again.to_string(), format!("{note}{later}"));
    }
    // One wrong line is one too many.
    let wrong = cosigner.line(TIME, "other\n");
    for lines in [format!("{first}{wrong}"), format!("{wrong}{first}")] {
        let error = add_cosignature(&note, &lines, &key).unwrap_err();
        assert!(matches!(error, CosignatureError::Wrong { .. }), "{error:?}");
    }
    let error = add_cosignature(&note, "", &key).unwrap_err();
    assert_eq!(error, CosignatureError::Missing);
}

#[test]
fn a_note_has_room_for_so_many_witnesses() {
    let signer = log();
    let mut note = Note::sign(TEXT, &[&signer]).unwrap();
    for index in 0..MAX_SIGNATURES {
        let cosigner = Cosigner::new(&format!("w{index}"), 9);
        let line = cosigner.line(TIME, TEXT);
        match add_cosignature(&note, &line, &cosigner.key()) {
            Ok(cosigned) => note = cosigned,
            Err(error) => {
                assert!(matches!(error, CosignatureError::NoRoom(_)), "{error:?}");
                assert_eq!(index, MAX_SIGNATURES - 1);
            }
        }
    }
    assert_eq!(note.signatures().len(), MAX_SIGNATURES);
}

proptest! {
    #[test]
    fn nothing_that_was_changed_is_believed(at in 0_usize..76, bit in 0_u8..8, in_text in 0_usize..60) {
        let cosigner = Cosigner::new(NAME, 9);
        let key = cosigner.key();
        let signature = signature_of(&cosigner.line(TIME, TEXT));
        let mut bytes = [&signature.key_id().to_be_bytes()[..], signature.bytes()].concat();
        bytes[at] ^= 1 << bit;
        let (id, rest) = bytes.split_first_chunk::<4>().unwrap();
        let changed = signed_note::Signature::new(NAME.to_owned(), u32::from_be_bytes(*id), rest.to_vec());
        let line = String::from_utf8(changed.unwrap().to_bytes()).unwrap();
        let changed = signature_of(&format!("{}\n", line.trim_end()));
        prop_assert_eq!(key.verify(&changed, TEXT), None);
        let mut text = TEXT.as_bytes().to_vec();
        text[in_text] ^= 1;
        let text = String::from_utf8(text).unwrap();
        prop_assert_eq!(key.verify(&signature, &text), None);
    }

    #[test]
    fn only_its_own_form_is_read_as_a_key(name in "[a-z./]{1,12}", seed: u8, at in 0_usize..70, with: char) {
        let text = Cosigner::new(&name, seed).key().to_string();
        let mut changed: Vec<char> = text.chars().collect();
        let at = at % changed.len();
        changed[at] = with;
        let changed: String = changed.into_iter().collect();
        if let Ok(key) = changed.parse::<CosignerKey>() {
            prop_assert_eq!(key.to_string(), changed);
        }
    }

    #[test]
    fn no_answer_makes_it_stop(lines in ".{0,200}") {
        let signer = log();
        let note = Note::sign(TEXT, &[&signer]).unwrap();
        let error = add_cosignature(&note, &lines, &Cosigner::new(NAME, 9).key());
        prop_assert_eq!(error, Err(CosignatureError::Missing));
    }
}
