"""Restarts two replicas in turn under load: no call that a server took is lost, and every answer is in its log.

`.ci/run` starts this; by hand as test_python_client.py. RESTARTS says how many restarts; 100 take about three minutes.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import grpc
from countersign.v1 import authorization_pb2 as decisions
from countersign.v1 import authorization_pb2_grpc
from serving import COUNTERSIGN, ROOT, deployment

RESTARTS = int(os.environ.get("RESTARTS", "12"))
CLIENTS = 4
PATIENCE_S = 30
# Two addresses in turn, and no repetition of calls that a server may have taken: gRPC repeats by itself only those that none took.
SERVICE_CONFIG = {"loadBalancingConfig": [{"round_robin": {}}]}
OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.enable_retries", 0),
    # Of several addresses gRPC makes an authority that no server takes.
    ("grpc.default_authority", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
]


def free_port() -> int:
    """A free port below those that systems give to clients: while a replica is away, one of those may be taken by its own client."""
    while True:
        port = random.randrange(15_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as found:
            found.bind(("127.0.0.1", port))
            return port


class Replica:
    """A server that keeps its address and its audit folder over restarts."""

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = free_port()
        self.start()

    def start(self) -> None:
        environment = {
            **os.environ,
            "COUNTERSIGN_APPROVALS__PATH": str(self.folder / "approvals.sqlite"),
            "COUNTERSIGN_AUDIT__PATH": str(self.folder / "audit"),
            "COUNTERSIGN_AUDIT__HEADS": str(self.folder / "heads.txt"),
            "COUNTERSIGN_IDENTITY__UNAUTHENTICATED_CALLERS": "true",
        }
        command = [COUNTERSIGN, "serve", "--policies", ROOT / "policies", "--listen", f"127.0.0.1:{self.port}"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        self.process.stdout.readline()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        return code

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def logged_decisions(self) -> int:
        command = [COUNTERSIGN, "audit", "verify", self.folder / "audit", "--format", "json"]
        verified = subprocess.run(command, capture_output=True, text=True)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        return sum(log.get("decisions", 0) for log in json.loads(verified.stdout)["logs"])


class Restarts(unittest.TestCase):
    def test_no_call_that_a_server_took_is_lost(self):
        with tempfile.TemporaryDirectory(prefix="countersign-") as name, contextlib.ExitStack() as stack:
            replicas = [Replica(pathlib.Path(name) / str(number)) for number in range(2)]
            for replica in replicas:
                stack.callback(replica.process.kill)
            answers, failures = self.ask_while(lambda: self.restart(replicas), replicas)
            self.assertEqual([replica.stop() for replica in replicas], [0, 0])

            # A call that came while a server closed may hear that nobody took it; then nothing of it is in a log.
            others = [failure for failure in failures if "UNAVAILABLE" not in failure]
            self.assertEqual(others, [])
            self.assertLess(len(failures), RESTARTS)
            self.assertGreater(answers, 100)
            self.assertEqual(sum(replica.logged_decisions() for replica in replicas), answers)

    def restart(self, replicas: list[Replica]) -> None:
        for number in range(RESTARTS):
            replica = replicas[number % len(replicas)]
            self.assertEqual(replica.stop(), 0, replica.log())
            replica.start()
            self.addCleanup(replica.process.kill)
            time.sleep(0.5)

    def ask_while(self, work, replicas: list[Replica]) -> tuple[int, list[str]]:
        stop, answers, failures = threading.Event(), [0] * CLIENTS, []

        def ask(client: int) -> None:
            target = "ipv4:" + ",".join(f"127.0.0.1:{replica.port}" for replica in replicas)
            with grpc.insecure_channel(target, [*OPTIONS, ("grpc.channel_id", client)]) as channel:
                stub = authorization_pb2_grpc.AuthorizationServiceStub(channel)
                while not stop.is_set():
                    try:
                        answer = stub.Authorize(deployment("payments-api-dev"), timeout=PATIENCE_S, wait_for_ready=True)
                        assert answer.decision == decisions.DECISION_ALLOW
                        answers[client] += 1
                    except grpc.RpcError as error:
                        failures.append(f"{error.code()}: {error.details()}")

        clients = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
        for each in clients:
            each.start()
        try:
            work()
        finally:
            stop.set()
            for each in clients:
                each.join()
        return sum(answers), failures


if __name__ == "__main__":
    unittest.main(verbosity=2)
