"""Two verifiers of the audit log that share no line of code judge the same logs: ours, and the Python one under examples/.

COUNTERSIGN=target/debug/countersign python tests/interop/test_verifiers.py
"""

import json
import os
import pathlib
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTERSIGN = os.environ.get("COUNTERSIGN", str(ROOT / "target/debug/countersign"))
SCRIPT = ROOT / "examples" / "verify_audit_log.py"
START_TIMEOUT_S = 30
MUTATIONS = int(os.environ.get("COUNTERSIGN_MUTATIONS", "60"))
SMALL = {"instance_type": "t3.small", "count": 2, "hourly_cost_cents": 4, "region": "eu-central-1", "public_ip": False}
RELEASE = {"version": "2.5.0", "migration": False, "provenance": {"builder": "github-actions", "commit": "61d0e42"}}
VERDICTS = {0: "intact", 1: "tampered", 2: "incomplete"}


class Place:
    """A folder with a server's audit log, its heads and its database."""

    def __init__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="countersign-")
        self.folder = pathlib.Path(self.temporary.name)
        self.audit = self.folder / "audit"
        self.heads = self.folder / "heads.txt"
        self.environment = {
            **os.environ,
            "COUNTERSIGN_APPROVALS__PATH": str(self.folder / "approvals.sqlite"),
            "COUNTERSIGN_AUDIT__PATH": str(self.audit),
            "COUNTERSIGN_AUDIT__HEADS": str(self.heads),
        }
        for name in list(self.environment):
            if name.startswith("COUNTERSIGN_") and "__" not in name:
                del self.environment[name]

    def serve(self):
        command = [COUNTERSIGN, "serve", "--dev", "--policies", ROOT / "policies", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
        address = json.loads(process.stdout.readline() if ready else "null")["listening"][0]
        return process, address

    def run(self, *words):
        done = subprocess.run(
            [COUNTERSIGN, *words], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def authorize(self, address, principal, action, resource, context, *more):
        words = ("--principal", principal, "--action", action, "--resource", resource, "--context", json.dumps(context))
        code, out, err = self.run("authorize", "--server", address, *words, "--format", "json", *more)
        return code, json.loads(out) if out else err

    def live(self, decisions):
        """Decisions, an approval with a refused vote, and its redemption; ends by a signal of the caller's choice."""
        process, address = self.serve()
        for _ in range(decisions):
            code, _ = self.authorize(address, 'Agent::"capacity-bot"', "StartInstances", 'Environment::"dev"', SMALL)
            assert code == 0, code
        deploy = ('Agent::"deploy-bot"', "Deploy", 'Service::"payments-api"', RELEASE, "--justification", "Release")
        code, asked = self.authorize(address, *deploy)
        assert code == 4, asked
        approval = asked["approval"]["id"]
        for name, expected in (("sofia", 1), ("yuki", 0), ("sam", 0)):
            code, _, err = self.run("approvals", "--server", address, "approve", approval, "--as", name, "--yes")
            assert code == expected, err
        code, allowed = self.authorize(address, *deploy, "--approval-id", approval)
        assert code == 0, allowed
        return process


def end(process, how):
    how(process)
    process.wait()
    process.stdout.close()


def both(place, audit):
    """What the two verifiers say of a folder, with the key and the heads that were kept."""
    code, out, err = place.run("audit", "verify", "--format", "json", "--key", place.key, "--heads", str(place.heads), str(audit))
    assert code in VERDICTS, err
    theirs = subprocess.run(
        [sys.executable, str(SCRIPT), str(audit), "--key", place.key, "--heads", str(place.heads), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert theirs.returncode in VERDICTS, theirs.stderr
    return VERDICTS[code], VERDICTS[theirs.returncode], out + theirs.stdout


class Verifiers(unittest.TestCase):
    """One log with a stopped and a killed replica, and what becomes of it in wrong hands."""

    @classmethod
    def setUpClass(cls):
        cls.place = Place()
        end(cls.place.live(3), subprocess.Popen.terminate)
        process = cls.place.live(2)
        time.sleep(1.5)
        end(process, subprocess.Popen.kill)
        process, _ = cls.place.serve()
        end(process, subprocess.Popen.terminate)
        code, out, err = cls.place.run("audit", "keys", "--dir", str(cls.place.audit))
        assert code == 0, err
        cls.place.key = out.strip()

    @classmethod
    def tearDownClass(cls):
        cls.place.temporary.cleanup()

    def test_both_find_an_honest_log_intact(self):
        ours, theirs, told = both(self.place, self.place.audit)
        self.assertEqual((ours, theirs), ("intact", "intact"), told)

    def test_neither_takes_another_key(self):
        real, self.place.key = self.place.key, "elsewhere/control+deadbeef+AZ2ZM0ZQ69GwDUyO7/x0JyLo09y3geyufyN1mFFMeUH3"
        self.addCleanup(setattr, self.place, "key", real)
        code, _, _ = self.place.run("audit", "verify", "--key", self.place.key, str(self.place.audit))
        theirs = subprocess.run([sys.executable, str(SCRIPT), str(self.place.audit), "--key", self.place.key], capture_output=True, check=False)
        self.assertNotEqual(code, 0)
        self.assertNotEqual(theirs.returncode, 0)

    def test_both_find_bits_that_were_flipped_in_signed_records(self):
        dice = random.Random(20261123)
        tails = sorted(self.place.audit.glob("control/tail")) + sorted(self.place.audit.glob("decision/*/tail"))
        tails = [tail for tail in tails if tail.stat().st_size > 200]
        disagreed = []
        for number in range(MUTATIONS):
            victim = dice.choice(tails)
            with tempfile.TemporaryDirectory(prefix="countersign-") as folder:
                copy = pathlib.Path(folder, "audit")
                shutil.copytree(self.place.audit, copy, ignore=shutil.ignore_patterns("keys"))
                file = copy / victim.relative_to(self.place.audit)
                content = bytearray(file.read_bytes())
                # The first record: whatever comes after it is signed together with it.
                at = dice.randrange(8, 120)
                content[at] ^= 1 << dice.randrange(8)
                file.write_bytes(bytes(content))
                ours, theirs, told = both(self.place, copy)
            if "intact" in (ours, theirs):
                disagreed.append((number, str(victim), at, ours, theirs, told))
        self.assertEqual(disagreed, [])

    def test_both_miss_a_replica_that_was_dropped(self):
        for victim in self.place.audit.glob("decision/*"):
            with tempfile.TemporaryDirectory(prefix="countersign-") as folder:
                copy = pathlib.Path(folder, "audit")
                shutil.copytree(self.place.audit, copy, ignore=shutil.ignore_patterns("keys", victim.name))
                ours, theirs, told = both(self.place, copy)
            self.assertNotIn("intact", (ours, theirs), told)


if __name__ == "__main__":
    unittest.main(verbosity=2)
