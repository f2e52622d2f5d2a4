"""Judges the crates in the lock file by .deny.toml: their licences, where they come from, which are banned. And checks the SBOM.

It holds every list of .deny.toml but the advisories, whose database lies elsewhere: `cargo deny check` does all of it, and takes
minutes to install. `.ci/run` starts this after `cargo fetch --locked`; by hand, with the packages of tests/deploy/requirements.txt:

    target/ci/deploy/bin/python tests/deploy/check_supply_chain.py
"""

import functools
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import unittest
from collections import defaultdict

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What is known here of .deny.toml: a setting beyond these would be one that is not held.
KNOWN = {
    "graph": {"targets", "all-features"},
    "advisories": {"yanked"},
    "licenses": {"allow", "unused-allowed-license"},
    "bans": {"multiple-versions", "wildcards", "deny"},
    "sources": {"unknown-registry", "unknown-git"},
}


@functools.cache
def rules() -> dict:
    return tomllib.loads((ROOT / ".deny.toml").read_text(encoding="utf-8"))


@functools.cache
def lock() -> list[dict]:
    return tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))["package"]


@functools.cache
def metadata(target: str) -> dict:
    command = ["cargo", "metadata", "--locked", "--offline", "--all-features", "--format-version=1", f"--filter-platform={target}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"run `cargo fetch --locked` first: {done.stderr}")
    return json.loads(done.stdout)


@functools.cache
def crates() -> tuple[dict, ...]:
    """Every crate that is compiled for one of the targets, for tests and benches too."""
    found = {}
    for target in rules()["graph"]["targets"]:
        facts = metadata(target)
        resolved = {node["id"] for node in facts["resolve"]["nodes"]}
        found |= {package["id"]: package for package in facts["packages"] if package["id"] in resolved}
    return tuple(found.values())


def called(package: dict) -> str:
    return f"{package['name']} {package['version']}"


def is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Whether an SPDX expression can be met with allowed licences alone. AND binds before OR; cargo once wrote a slash for OR."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    verdict, rest = either(words, allowed)
    if rest:
        raise ValueError(f"`{expression}` is no expression")
    return verdict


def either(words: list[str], allowed: frozenset[str]) -> tuple[bool, list[str]]:
    verdict, rest = both(words, allowed)
    while rest[:1] == ["OR"]:
        other, rest = both(rest[1:], allowed)
        verdict = verdict or other
    return verdict, rest


def both(words: list[str], allowed: frozenset[str]) -> tuple[bool, list[str]]:
    verdict, rest = one(words, allowed)
    while rest[:1] == ["AND"]:
        other, rest = one(rest[1:], allowed)
        verdict = verdict and other
    return verdict, rest


def one(words: list[str], allowed: frozenset[str]) -> tuple[bool, list[str]]:
    match words:
        case ["(", *inner]:
            verdict, rest = either(inner, allowed)
            if rest[:1] != [")"]:
                raise ValueError("a parenthesis is not closed")
            return verdict, rest[1:]
        case [licence, "WITH", exception, *rest]:
            return f"{licence} WITH {exception}" in allowed, rest
        case [licence, *rest] if licence not in ("AND", "OR", "WITH", ")"):
            return licence in allowed, rest
        case _:
            raise ValueError("a licence is missing")


class Expressions(unittest.TestCase):
    def test_they_are_read_as_spdx_says(self):
        allowed = frozenset({"MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"})
        table = {
            "MIT": True,
            "GPL-3.0": False,
            "GPL-3.0 OR MIT": True,
            "GPL-3.0/MIT": True,
            "GPL-3.0 AND MIT": False,
            "GPL-3.0 OR MIT AND Zlib": True,
            "(GPL-3.0 OR MIT) AND Zlib": True,
            "(GPL-3.0 OR MIT) AND ISC": False,
            "Apache-2.0 WITH LLVM-exception": True,
            "Apache-2.0": False,
        }
        for expression, verdict in table.items():
            self.assertEqual(is_allowed(expression, allowed), verdict, expression)

    def test_what_is_none_is_an_error(self):
        for expression in ("", "MIT OR", "(MIT", "MIT Zlib", "AND MIT"):
            with self.assertRaises(ValueError, msg=expression):
                is_allowed(expression, frozenset({"MIT"}))


class Crates(unittest.TestCase):
    def test_every_rule_is_one_that_is_held_here(self):
        unknown = {name: set(section) - KNOWN.get(name, set()) for name, section in rules().items()}
        self.assertEqual({name: keys for name, keys in unknown.items() if keys}, {})

    def test_licences_are_allowed(self):
        allowed = frozenset(rules()["licenses"]["allow"])
        refused = {called(crate): crate["license"] for crate in crates() if not is_allowed(crate["license"] or "NONE", allowed)}
        self.assertEqual(refused, {})

    def test_banned_crates_are_absent(self):
        banned = {ban["crate"]: ban["reason"] for ban in rules()["bans"]["deny"]}
        found = {called(crate): banned[crate["name"]] for crate in crates() if crate["name"] in banned}
        self.assertEqual(found, {})

    def test_no_dependency_takes_any_version(self):
        self.assertEqual(rules()["bans"]["wildcards"], "deny")
        ours = [crate for crate in crates() if crate["source"] is None]
        loose = [dep["name"] for crate in ours for dep in crate["dependencies"] if dep["req"] == "*" and dep["source"]]
        self.assertEqual(loose, [])

    def test_everything_comes_from_the_default_registry_with_a_checksum(self):
        self.assertEqual((rules()["sources"]["unknown-registry"], rules()["sources"]["unknown-git"]), ("deny", "deny"))
        sources = set()
        for package in lock():
            if package["name"] == "countersign":
                continue
            sources.add(package.get("source"))
            self.assertRegex(package.get("checksum", ""), "^[0-9a-f]{64}$", called(package))
        # One registry for all, and it is the one that cargo knows without being told: the repository configures no other.
        self.assertEqual(len(sources), 1, sources)
        self.assertTrue(all(source and source.startswith("registry+") for source in sources), sources)
        configured = (ROOT / ".cargo" / "config.toml").read_text(encoding="utf-8")
        self.assertNotRegex(configured, r"(?m)^\s*\[(source|registr)")

    def test_second_versions_are_shown(self):
        versions = defaultdict(set)
        for crate in crates():
            versions[crate["name"]].add(crate["version"])
        twice = {name: sorted(several) for name, several in sorted(versions.items()) if len(several) > 1}
        if rules()["bans"]["multiple-versions"] == "deny":
            self.assertEqual(twice, {})
        lines = [f"{name} {', '.join(several)}" for name, several in twice.items()]
        print(f"\n{len(twice)} of {len(versions)} crates are there in several versions:", *lines, sep="\n  ", file=sys.stderr)


class Sbom(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        command = [sys.executable, ROOT / "deploy" / "sbom.py", "--target", rules()["graph"]["targets"][0]]
        cls.printed = [subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout for _ in range(2)]
        cls.sbom = json.loads(cls.printed[0])

    def test_it_is_cyclonedx(self):
        fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(self.printed[0])
        self.assertIsNone(fault, fault)

    def test_the_same_sources_give_the_same_bytes(self):
        self.assertEqual(*self.printed)

    def test_every_crate_has_a_licence_and_a_checksum(self):
        for described in self.sbom["components"]:
            self.assertTrue(described.get("licenses") and described.get("hashes"), described["purl"])

    def test_it_lists_what_is_shipped_and_nothing_else(self):
        names = {described["name"] for described in self.sbom["components"]}
        manifest = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
        self.assertEqual(set(manifest["dependencies"]) - names, set())
        only_for_tests = set(manifest["dev-dependencies"]) - set(manifest["dependencies"])
        self.assertIn("criterion", only_for_tests)
        self.assertNotIn("criterion", names)

    def test_every_reference_is_to_a_component(self):
        known = {described["bom-ref"] for described in self.sbom["components"]} | {self.sbom["metadata"]["component"]["bom-ref"]}
        for dependency in self.sbom["dependencies"]:
            self.assertEqual(set(dependency["dependsOn"]) - known, set(), dependency["ref"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
