//! Arguments that several commands share.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;

use crate::config::PolicyConfig;
use crate::model::{Posture, ValidationMode};
use crate::policy::{Bundle, BundleLimits, CompileOptions};
use crate::server::compile_options;
use crate::storage::policy_dir::PolicyDir;
use crate::usecase::on_large_stack;
use crate::usecase::ports::PolicySource;

/// How policies are compiled.
#[derive(Clone, Debug, Args)]
pub(super) struct CompileArguments {
    /// How policies are checked against the schema: strict, warn or off.
    #[arg(long, value_name = "MODE", default_value_t)]
    pub(super) validation: ValidationMode,
    /// What becomes of policies that cannot be evaluated and of missing entities: strict (both deny), or cedar (both are skipped;
    /// for conformance and migration only).
    #[arg(long, value_name = "POSTURE", default_value_t)]
    pub(super) posture: Posture,
    /// An entity type whose entities may review; may be given several times.
    #[arg(long = "reviewer-type", value_name = "TYPE", default_value = "User")]
    pub(super) reviewer_types: Vec<String>,
}

impl CompileArguments {
    /// The same as configuration.
    pub(super) fn to_config(&self, dir: &Path) -> PolicyConfig {
        PolicyConfig {
            dir: dir.to_owned(),
            validation: self.validation.to_string(),
            posture: self.posture.to_string(),
            reviewer_types: self.reviewer_types.clone(),
            ..PolicyConfig::default()
        }
    }

    /// The same as options of the compiler.
    pub(super) fn to_options(&self, dir: &Path) -> CompileOptions {
        compile_options(&self.to_config(dir))
    }
}

/// Reads a policy directory.
pub(super) fn read_bundle(dir: &Path) -> anyhow::Result<Bundle> {
    let source = PolicyDir::new(dir, BundleLimits::DEFAULT);
    source.read().map_err(|problem| anyhow!("{problem}"))
}

/// Runs what parses policies where it cannot overflow the stack.
pub(super) fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    on_large_stack(work).context("the work could not be done")
}

/// The policy directory, as a positional argument.
#[derive(Clone, Debug, Args)]
pub(super) struct DirArgument {
    /// The policy directory.
    #[arg(value_name = "DIR", default_value = "policies")]
    pub(super) dir: PathBuf,
}
