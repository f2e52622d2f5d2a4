//! The sample policies, built into the program, so that `serve --dev` runs anywhere.

use crate::model::PolicyProblem;
use crate::policy::{Bundle, BundleFile};
use crate::usecase::ports::PolicySource;

include!(concat!(env!("OUT_DIR"), "/sample_set.rs"));

/// The sample policies.
#[derive(Clone, Copy, Debug)]
pub struct SampleSet;

impl PolicySource for SampleSet {
    fn read(&self) -> Result<Bundle, PolicyProblem> {
        let files = SAMPLE_FILES.iter().map(|(path, text)| BundleFile {
            path: (*path).to_owned(),
            bytes: text.as_bytes().to_vec(),
        });
        Ok(Bundle::new(files))
    }
}
