#!/usr/bin/env bash
# A short fuzz run from the committed corpus: what `.ci/run` calls.
#
# Only the crates that are fuzzed are instrumented (`instrument.sh`); all other dependencies are those of the ordinary dev build in
# the same target directory. Instrumenting everything, as `cargo fuzz` does, would compile every dependency a second time.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

readonly target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
command -v c++ >/dev/null || {
  echo 'c++ is not installed: libFuzzer is built from C++' >&2
  exit 1
}

RUSTC_WRAPPER=$PWD/tests/fuzz/instrument.sh \
  cargo build --locked --manifest-path tests/fuzz/Cargo.toml --target-dir "$target"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for name in decode_request load_bundle format_policies read_audit; do
  printf '\n%s\n' "$name"
  mkdir "$scratch/$name"
  # New finds go to the scratch folder; the committed corpus is only read.
  "$target/debug/$name" "$scratch/$name" "tests/fuzz/corpus/$name" -seed=1 -runs=3000 -max_total_time=20 -max_len=16384 \
    -timeout=20 -rss_limit_mb=4096 -artifact_prefix="$scratch/" -print_final_stats=1 2>"$scratch/$name.log" || {
    tail -40 "$scratch/$name.log" >&2
    exit 1
  }
  grep -E 'stat::number_of_executed_units|stat::new_units_added' "$scratch/$name.log"
done
