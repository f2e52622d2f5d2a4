"""Prints a policy directory as values of the chart: `policy_values.py policies > policy-values.yaml`.

JSON, which YAML is a superset of. A ConfigMap holds 1 MiB; larger directories are mounted by `policies.volume`.
"""

import json
import pathlib
import sys

LIMIT_BYTES = 1_000_000


def main() -> int:
    if len(sys.argv) != 2 or not (root := pathlib.Path(sys.argv[1])).is_dir():
        print("usage: policy_values.py DIRECTORY", file=sys.stderr)
        return 2
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    files = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    }
    if any("__" in name for name in files):
        print("a file has `__` in its name, which stands for `/` in the ConfigMap: rename it", file=sys.stderr)
        return 1
    size = sum(len(name) + len(text.encode()) for name, text in files.items())
    if size > LIMIT_BYTES:
        print(f"{size} bytes are too many for a ConfigMap: use `policies.volume`", file=sys.stderr)
        return 1
    json.dump({"policies": {"files": files}}, sys.stdout, indent=2, ensure_ascii=False)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
