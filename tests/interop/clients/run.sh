#!/usr/bin/env bash
# Compiles the TypeScript example with its tests and runs them: tests/interop/clients/run.sh FOLDER, from the top of the repository.
#
# FOLDER is where the packages of tests/interop/package.json are installed. All is built there, so that they are found. BUF,
# COUNTERSIGN and PYTHON name the programs; what is missing is a failure.
set -euo pipefail
readonly folder=$(realpath "$1")
readonly work=$folder/clients

rm -rf "$work"
mkdir "$work"
cp --parents --recursive --dereference proto examples/typescript/{src,proto,tsconfig.json,buf.gen.yaml} tests/interop/clients "$work"
(cd "$work/examples/typescript" && PATH=$folder/node_modules/.bin:$PATH "$BUF" generate)
"$folder/node_modules/.bin/tsc" --project "$work/tests/interop/clients"
node --test --test-reporter spec "$work"/dist/tests/interop/clients/*.test.js
