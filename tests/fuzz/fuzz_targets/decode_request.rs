//! Any bytes as an `AuthorizeRequest`: they are refused with a reason, or decided as Cedar alone would decide them.

#![no_main]

mod reference;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use countersign::grpc::{DecodeRequestError, decode_request};
use countersign::model::{Decided, Decision, Posture, Request, RequestProblem, ValidationMode};
use countersign::policy::{
    Bundle, BundleLimits, CompileOptions, Engine, FileKind, Prepared, Snapshot, compile, explain,
};
use countersign::storage::policy_dir::PolicyDir;
use countersign::usecase::on_large_stack;
use countersign::usecase::ports::PolicySource;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

use reference::Reference;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies");
const NOW: Timestamp = Timestamp::UNIX_EPOCH;
/// How many decisions are remembered, to compare with those of the same cache key.
const REMEMBERED: usize = 4_096;

static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let dir = PolicyDir::new(Path::new(SAMPLE), BundleLimits::DEFAULT);
    let sample = dir.read().expect("the sample policies can be read");
    let files = sample.files().iter().cloned();
    let without_schema =
        Bundle::new(files.filter(|file| FileKind::of(&file.path) != Some(FileKind::Schema)));
    vec![
        Setting::new(&sample, Posture::Strict),
        Setting::new(&sample, Posture::Cedar),
        Setting::new(&without_schema, Posture::Cedar),
    ]
});

fuzz_target!(init: { LazyLock::force(&SETTINGS); }, |bytes: &[u8]| {
    match decode_request(bytes) {
        Ok(request) => SETTINGS.iter().for_each(|setting| setting.check(&request)),
        Err(DecodeRequestError::Refused(problem)) => check_refusal(&problem),
        Err(DecodeRequestError::Malformed(_)) => {}
    }
});

/// A refusal tells the caller what to mend.
fn check_refusal(problem: &RequestProblem) {
    assert!(!problem.field.is_empty(), "{problem:?}");
    assert!(!problem.message.is_empty(), "{problem:?}");
}

/// A policy set with a way to decide without the engine.
struct Setting {
    posture: Posture,
    snapshot: Arc<Snapshot>,
    reference: Reference,
    /// By cache key: the request as it was asked first, and what would have been kept of it.
    kept: Mutex<HashMap<Vec<u8>, (Request, Decided)>>,
}

impl Setting {
    fn new(bundle: &Bundle, posture: Posture) -> Self {
        let has_schema = bundle
            .files()
            .iter()
            .any(|file| FileKind::of(&file.path) == Some(FileKind::Schema));
        let options = CompileOptions {
            posture,
            validation: if has_schema {
                ValidationMode::Strict
            } else {
                ValidationMode::Off
            },
            // The sample's cases are for the sample's schema.
            run_cases: has_schema && posture == Posture::Strict,
            // The sample links accounts by plain references, which only a schema tells from records.
            link_attributes: if has_schema {
                CompileOptions::default().link_attributes
            } else {
                Vec::new()
            },
            ..CompileOptions::default()
        };
        let report = on_large_stack(|| compile(bundle, &options)).expect("the thread ends");
        Self {
            posture,
            snapshot: report
                .snapshot
                .unwrap_or_else(|| panic!("the sample compiles: {:?}", report.problems)),
            reference: Reference::new(bundle),
            kept: Mutex::default(),
        }
    }

    fn check(&self, request: &Request) {
        match self.decide(request) {
            Ok((prepared, decided)) => {
                assert_eq!(
                    self.decide(request).map(|(_, again)| again).as_ref(),
                    Ok(&decided),
                    "decided twice"
                );
                let explained = explain(&self.snapshot, request.clone(), NOW);
                assert_eq!(
                    explained.map(|all| all.decided).as_ref(),
                    Ok(&decided),
                    "explained"
                );
                self.check_with_reference(prepared.request(), &decided);
                self.check_key(&prepared, decided);
            }
            Err(problem) => check_refusal(&problem),
        }
    }

    fn decide(&self, request: &Request) -> Result<(Prepared, Decided), RequestProblem> {
        let prepared = self.snapshot.prepare(request.clone())?;
        let plan = self.snapshot.plan(&prepared, NOW)?;
        let decided = plan.decide(Engine::Index);
        assert_eq!(
            decided,
            plan.decide(Engine::Full),
            "the index disagrees: {request:?}"
        );
        Ok((prepared, decided))
    }

    fn check_with_reference(&self, request: &Request, decided: &Decided) {
        let Some(expected) = self.reference.decide(request) else {
            return;
        };
        let found = decided.outcome.decision();
        // Strict posture denies more: what errs, and what is missing.
        let is_sound =
            found == expected || (self.posture == Posture::Strict && found == Decision::Deny);
        assert!(
            is_sound,
            "{found:?} where Cedar says {expected:?}: {request:?}"
        );
    }

    /// Two requests with one key get one decision, or the cache would answer wrongly.
    fn check_key(&self, prepared: &Prepared, decided: Decided) {
        if !prepared.is_cacheable() {
            return;
        }
        let mut key = Vec::new();
        prepared.write_key(&mut key);
        let mut kept = self.kept.lock().expect("nobody panicked");
        if let Some((first, answer)) = kept.get(&key) {
            assert_eq!(
                *answer,
                decided,
                "one key for {first:?} and {:?}",
                prepared.request()
            );
        } else if decided.is_cacheable() {
            if kept.len() >= REMEMBERED {
                kept.clear();
            }
            kept.insert(key, (prepared.request().clone(), decided));
        }
    }
}
