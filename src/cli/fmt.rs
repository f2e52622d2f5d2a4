//! `countersign fmt`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::policy::{FileKind, format_policies};

use super::Outcome;
use super::arguments::{deep, read_bundle};
use super::output::{print, say};
use super::report::{counted, render};

#[derive(Debug, Args)]
pub(super) struct FmtArguments {
    /// Policy directories or `.cedar` files.
    #[arg(value_name = "PATH", default_value = "policies")]
    paths: Vec<PathBuf>,
    /// Change nothing; name the files that are not formatted, and exit with 1 if there are any.
    #[arg(long)]
    check: bool,
}

/// Formats every policy file. A file that does not parse is left alone, and the others are formatted all the same.
pub(super) fn run(arguments: &FmtArguments) -> anyhow::Result<Outcome> {
    let mut files = Vec::new();
    for path in &arguments.paths {
        collect(path, &mut files)?;
    }
    let (mut unformatted, mut broken) = (0_usize, 0_usize);
    for (path, text) in &files {
        let name = path.display().to_string();
        match deep(|| format_policies(&name, text))? {
            Ok(formatted) if formatted == *text => {}
            Ok(formatted) => {
                unformatted = unformatted.saturating_add(1);
                print(&name);
                if !arguments.check {
                    write_whole(path, &formatted)?;
                }
            }
            Err(problems) => {
                broken = broken.saturating_add(1);
                for problem in &problems {
                    say(&render(problem));
                }
            }
        }
    }
    let verb = if arguments.check {
        "would be formatted"
    } else {
        "formatted"
    };
    say(&format!(
        "{} {verb}, of {}",
        counted(unformatted, "file", "files"),
        files.len()
    ));
    let has_findings = broken > 0 || (arguments.check && unformatted > 0);
    Ok(if has_findings {
        Outcome::Findings
    } else {
        Outcome::Success
    })
}

fn collect(path: &Path, files: &mut Vec<(PathBuf, String)>) -> anyhow::Result<()> {
    if !path.is_dir() {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("`{}` cannot be read", path.display()))?;
        files.push((path.to_owned(), text));
        return Ok(());
    }
    for file in read_bundle(path)?.files() {
        if FileKind::of(&file.path) == Some(FileKind::Policies) {
            let text = String::from_utf8(file.bytes.clone())
                .with_context(|| format!("`{}` is not UTF-8", file.path))?;
            files.push((path.join(&file.path), text));
        }
    }
    Ok(())
}

/// Replaces a file whole: a server that watches the directory never sees half of it.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let name = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let beside = path.with_file_name(format!(".{name}.formatting"));
    let permissions = std::fs::metadata(path)?.permissions();
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::set_permissions(&beside, permissions))
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("`{}` cannot be written", path.display()))
}
