//! `countersign audit keys`: the keys that sign the control log.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::audit::checkpoint::Checkpoint;
use crate::audit::note::SignerKey;
use crate::cli::Outcome;
use crate::cli::output::{print, say};
use crate::config::AuditConfig;
use crate::storage::audit_keys::AuditKeys;
use crate::storage::log_folder::FolderReader;

#[derive(Debug, Args)]
pub(super) struct KeysArguments {
    /// The folder of the audit log.
    #[arg(long, value_name = "FOLDER", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<KeysCommand>,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Print the public keys, which whoever verifies should know from you: the default.
    List,
    /// Add a new key. From its next start on the server signs with the old and the new one; the old one vouches for the new one.
    Add,
    /// Take the oldest key out, some time after a new one was added.
    Retire,
}

pub(super) fn run(arguments: &KeysArguments) -> anyhow::Result<Outcome> {
    let audit = arguments
        .dir
        .clone()
        .unwrap_or_else(|| AuditConfig::default().path);
    let folder = audit.join("keys");
    let show = |key: &SignerKey| print(&key.verifier().to_string());
    match &arguments.command {
        None | Some(KeysCommand::List) => {
            let keys = AuditKeys::read(&folder)
                .with_context(|| format!("the keys in `{}`", folder.display()))?;
            keys.control.iter().for_each(show);
        }
        Some(KeysCommand::Add) => {
            let key = AuditKeys::add(&folder)?;
            show(&key);
            say(
                "Restart the server: it records the new key, and signs with both.\nWith several replicas, copy `keys/control.key` to all of them first.",
            );
        }
        Some(KeysCommand::Retire) => {
            require_signed_by_the_rest(&audit, &folder)?;
            let Some(key) = AuditKeys::retire(&folder)? else {
                say("There is only one key: add another one first.");
                return Ok(Outcome::Findings);
            };
            show(&key);
            say(
                "Restart the server: it no longer signs with this key. What it has signed stays provable.",
            );
        }
    }
    Ok(Outcome::Success)
}

/// A key may go only after those that stay have signed: otherwise nobody could go on with the log.
fn require_signed_by_the_rest(audit: &Path, folder: &Path) -> anyhow::Result<()> {
    let keys = AuditKeys::read(folder)?.control;
    let staying: Vec<_> = keys
        .iter()
        .skip(1)
        .map(|key| key.verifier().clone())
        .collect();
    let Some(origin) = staying.first().map(|key| key.name().to_owned()) else {
        return Ok(());
    };
    let last = FolderReader::open(&audit.join("control"))?.last_checkpoint()?;
    let is_signed = last.is_some_and(|note| Checkpoint::open(&note, &origin, &staying).is_ok());
    anyhow::ensure!(
        is_signed,
        "the keys that would stay have not signed the log yet: start the server with them first"
    );
    Ok(())
}
