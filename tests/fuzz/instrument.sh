#!/usr/bin/env bash
# A wrapper for rustc: instruments the crates that are fuzzed and compiles all others as they always are.
set -euo pipefail

# What `cargo fuzz build --sanitizer none` passes, to every crate.
readonly coverage=(
  -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
)

case " $* " in
  *' --crate-name countersign '* | *' --crate-name cedar_policy_core '* | *' --crate-name cedar_policy_formatter '*)
    exec "$@" "${coverage[@]}"
    ;;
esac
exec "$@"
