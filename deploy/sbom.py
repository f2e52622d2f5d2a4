"""Prints what the program is made of, as a CycloneDX 1.6 document: `python3 deploy/sbom.py > countersign.cdx.json`.

From `cargo metadata` and the lock file alone, for one target (`--target`, by default this machine's), without what only tests
and benches need. The same sources give the same bytes: there is no time in it, and its serial number is made from the rest.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMESPACE = uuid.UUID("8b8f3a0e-5d0c-5c53-9a55-6b0a3c9d2f11")


def host() -> str:
    version = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    return next(line.removeprefix("host: ") for line in version.splitlines() if line.startswith("host: "))


def metadata(target: str) -> dict:
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def checksums() -> dict[tuple[str, str], str]:
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    return {(package["name"], package["version"]): package.get("checksum", "") for package in lock["package"]}


def shipped(resolve: dict) -> dict[str, list[str]]:
    """The crates that the program or its build needs, each with those it needs itself."""
    nodes = {node["id"]: node for node in resolve["nodes"]}
    needs: dict[str, list[str]] = {}
    waiting = [resolve["root"]]
    while waiting:
        crate = waiting.pop()
        if crate in needs:
            continue
        # `null` is a normal dependency.
        kinds = {dep["pkg"]: {kind["kind"] for kind in dep["dep_kinds"]} for dep in nodes[crate]["deps"]}
        needs[crate] = sorted(name for name, of in kinds.items() if of & {None, "build"})
        waiting.extend(needs[crate])
    return needs


def purl(package: dict) -> str:
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def component(package: dict, checksum: str) -> dict:
    described = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "scope": "required",
        "purl": purl(package),
    }
    if package["license"]:
        # Before SPDX, cargo wrote a slash for OR.
        described["licenses"] = [{"expression": " OR ".join(part.strip() for part in package["license"].split("/"))}]
    if checksum:
        described["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        described["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return described


def document(target: str) -> dict:
    facts = metadata(target)
    sums = checksums()
    needs = shipped(facts["resolve"])
    packages = {package["id"]: package for package in facts["packages"] if package["id"] in needs}
    root = packages[facts["resolve"]["root"]]
    by_name = sorted(packages.values(), key=lambda package: (package["name"], package["version"]))
    components = [component(package, sums[package["name"], package["version"]]) for package in by_name if package is not root]
    program = component(root, "") | {"type": "application"}
    dependencies = [
        {"ref": purl(package), "dependsOn": sorted(purl(packages[crate]) for crate in needs[package["id"]])}
        for package in by_name
    ]
    described = {
        "metadata": {"component": program, "properties": [{"name": "cargo:target", "value": target}]},
        "components": components,
        "dependencies": dependencies,
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(described, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1, **described}


def main() -> int:
    parser = argparse.ArgumentParser(description="Prints what the program is made of, as CycloneDX 1.6.")
    parser.add_argument("--target", default=None, help="for which target; by default this machine's")
    arguments = parser.parse_args()
    json.dump(document(arguments.target or host()), sys.stdout, indent=2, ensure_ascii=False)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
