//! Compiles the public API without needing a protoc on the machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What the audit log holds: its types belong to the floor that writes and verifies it.
const RECORDS: &str = "countersign/record/v1/record.proto";
const PROTOS: [&str; 4] = [
    "countersign/v1/approval.proto",
    "countersign/v1/audit.proto",
    "countersign/v1/authorization.proto",
    "countersign/v1/policy.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(
        out_dir.join("countersign.v1.binpb"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .btree_map(".")
        .compile_fds(protox::compile([RECORDS], ["proto"])?)?;
    tonic_prost_build::configure()
        .btree_map(".")
        .extern_path(".countersign.record.v1", "crate::audit::proto")
        // Most answers carry no approval, and all are as large as the largest.
        .boxed(".countersign.v1.AuthorizeResponse.approval")
        .compile_fds(descriptors)?;
    embed_sample_set(&out_dir)
}

/// Builds the sample policies into the program, so that `serve --dev` runs anywhere.
fn embed_sample_set(out_dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=policies");
    let root = std::path::absolute("policies")?;
    let mut files = Vec::new();
    list_files(&root, &mut files)?;
    files.sort();
    let mut table = String::from("const SAMPLE_FILES: &[(&str, &str)] = &[\n");
    for file in files {
        let name = file
            .strip_prefix(&root)?
            .to_string_lossy()
            .replace('\\', "/");
        writeln!(
            table,
            "    ({name:?}, include_str!({:?})),",
            file.display().to_string()
        )?;
    }
    table.push_str("];\n");
    std::fs::write(out_dir.join("sample_set.rs"), table)?;
    Ok(())
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list_files(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
