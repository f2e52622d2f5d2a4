#!/usr/bin/env bash
# Generates the Python code of the public API, with its types, into a folder: `generated` beside this file, or the one named.
set -euo pipefail
top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${1:-$top/examples/python/generated}

mkdir -p "$folder"
mapfile -t protos < <(cd "$top/proto" && find countersign -name '*.proto' | sort)
"${PYTHON:-python3}" -m grpc_tools.protoc --proto_path="$top/proto" \
  --python_out="$folder" --pyi_out="$folder" --grpc_python_out="$folder" "${protos[@]}"
