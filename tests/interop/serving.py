"""Servers to call, and requests that nobody has made before: for the tests of the Python client."""

import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

from countersign.v1 import approval_pb2_grpc, audit_pb2_grpc
from countersign.v1 import authorization_pb2 as decisions
from countersign_client import Countersign, context, entity, fresh_key, loopback_channel

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTERSIGN = pathlib.Path(os.environ.get("COUNTERSIGN", ROOT / "target" / "debug" / "countersign")).resolve()
START_TIMEOUT_S = 30


class Server:
    """A `countersign serve` of its own, with policies that a test may change: with `--dev` unless a configuration is given."""

    def __init__(self, settings: dict[str, str], change_policies: Callable[[pathlib.Path], None], config: str | None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="countersign-")
        folder = pathlib.Path(self._folder.name)
        self.policies = folder / "policies"
        shutil.copytree(ROOT / "policies", self.policies)
        change_policies(self.policies)
        self.log = folder / "log"
        environment = {
            **os.environ,
            "COUNTERSIGN_APPROVALS__PATH": str(folder / "approvals.sqlite"),
            # These tests ask more often than any one agent should.
            "COUNTERSIGN_APPROVALS__OPENED_PER_MINUTE": "1000",
            "COUNTERSIGN_APPROVALS__PENDING_PER_REQUESTER": "1000",
            "COUNTERSIGN_AUDIT__PATH": str(folder / "audit"),
            "COUNTERSIGN_AUDIT__READERS": '["dana"]',
            "COUNTERSIGN_AUDIT__HEADS": str(folder / "heads.txt"),
            **settings,
        }
        command = [COUNTERSIGN, "serve", "--listen", "127.0.0.1:0", "--policies", self.policies]
        if config is None:
            command.append("--dev")
        else:
            (folder / "config.toml").write_text(config)
            command += ["--config", folder / "config.toml"]
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            self.address = self._read_address()
        except BaseException:
            self.stop()
            raise
        self.channel = loopback_channel(self.address)
        self.agent = Countersign(self.channel)
        self.approvals = approval_pb2_grpc.ApprovalServiceStub(self.channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(self.channel)

    def person(self, name: str) -> Countersign:
        return Countersign(self.channel, loopback_token=f"development:{name}")

    def stop(self) -> None:
        if hasattr(self, "channel"):
            self.channel.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def _read_address(self) -> str:
        ready, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT_S)
        first_line = self._process.stdout.readline() if ready else ""
        try:
            return json.loads(first_line)["listening"][0]
        except (ValueError, LookupError, TypeError) as error:
            raise AssertionError(f"it printed {first_line!r} in place of its addresses:\n{self.log.read_text()}") from error


@contextlib.contextmanager
def running_server(
    settings: dict[str, str] | None = None,
    change_policies: Callable[[pathlib.Path], None] = lambda folder: None,
    config: str | None = None,
) -> Iterator[Server]:
    server = Server(settings or {}, change_policies, config)
    try:
        yield server
    finally:
        server.stop()


def deployment(service: str = "payments-api", **changes: object) -> decisions.AuthorizeRequest:
    """A deployment that nobody has asked for before: to production it takes two people of the SRE team."""
    provenance = {"builder": "github-actions", "commit": "9f2c1d7"}
    values = {"version": fresh_key(), "migration": False, "provenance": provenance, **changes}
    return decisions.AuthorizeRequest(
        principal=entity("Agent", "deploy-bot"),
        action="Deploy",
        resource=entity("Service", service),
        context=context(values),
        justification="Fixes a crash.",
        request_id=fresh_key(),
    )


def changed(request: decisions.AuthorizeRequest, **fields: object) -> decisions.AuthorizeRequest:
    """A copy of `request` in which other fields are set."""
    copy = decisions.AuthorizeRequest()
    copy.CopyFrom(request)
    copy.MergeFrom(decisions.AuthorizeRequest(**fields))
    return copy
