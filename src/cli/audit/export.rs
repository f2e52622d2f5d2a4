//! `countersign audit export`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::cli::Outcome;
use crate::cli::output::say;

use super::filter::FilterArguments;
use super::source::SourceArguments;

/// So often progress is told.
const TELL_EVERY: usize = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    filter: FilterArguments,
    /// Where the bundle is written, a tar archive; there must be no such file yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes a bundle.
pub(super) async fn run(arguments: &ExportArguments) -> anyhow::Result<Outcome> {
    let filter = arguments.filter.filter()?;
    let source = arguments.source.open().await?;
    let out = &arguments.out;
    let named = || format!("`{}` cannot be written", out.display());
    let file = File::create_new(out).with_context(named)?;
    let mut writer = BufWriter::new(file);
    let (mut bytes, mut told) = (0_usize, 0_usize);
    let exported = source.export(&filter, &mut writer, |piece| {
        bytes = bytes.saturating_add(piece);
        if bytes.saturating_sub(told) >= TELL_EVERY {
            told = bytes;
            say(&format!("{} MiB so far", bytes >> 20));
        }
    });
    let written = exported.await.and_then(|()| {
        writer.flush().with_context(named)?;
        writer.get_ref().sync_all().with_context(named)
    });
    if let Err(error) = written {
        // Half a bundle must not be taken for one.
        fs::remove_file(out).ok();
        return Err(error);
    }
    say(&format!(
        "wrote `{}`, {} KiB; check it with `countersign audit verify {}`",
        out.display(),
        bytes.div_ceil(1024),
        out.display()
    ));
    Ok(Outcome::Success)
}
