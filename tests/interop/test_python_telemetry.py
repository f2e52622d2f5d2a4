"""What a collector and a Prometheus that nobody here wrote get from a running server.

`.ci/run` starts this; by hand as test_python_client.py, with NODE_MODULES naming the folder of node modules. Needs Debian's
`prometheus`.
"""

import contextlib
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

import rotel
from google.protobuf import json_format

from countersign.v1 import approval_pb2 as approvals
from countersign.v1 import authorization_pb2 as decisions
from countersign.v1 import authorization_pb2_grpc
from countersign_client import CallFailed
from serving import ROOT, Server, changed, deployment, running_server
from test_python_callers import CONFIG, write_credentials
from test_server import GRANT

PATIENCE_S = 40
# The span that we call from.
SPAN = "b7ad6b7169203331"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
# What an SRE looks for in a span of a decision.
ATTRIBUTES = ("countersign.decision.id", "countersign.decision.outcome", "countersign.policy.version", "rpc.response.status_code")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise AssertionError(f"`{name}` is not installed: Debian has it in the package `prometheus`")
    return path


def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def running(command: list[str], log: pathlib.Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


class Telemetry(unittest.TestCase):
    folder: pathlib.Path
    server: Server
    operators: int
    spans: pathlib.Path
    stack: contextlib.ExitStack

    @classmethod
    def setUpClass(cls) -> None:
        cls.stack = contextlib.ExitStack()
        cls.addClassCleanup(cls.stack.close)
        cls.folder = pathlib.Path(cls.stack.enter_context(tempfile.TemporaryDirectory(prefix="countersign-")))
        cls.spans = cls.folder / "spans"
        collector = cls.start_collector()
        cls.operators = free_port()
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
            "OTEL_METRICS_EXPORTER": "prometheus",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "COUNTERSIGN_SERVER__OPERATORS": f"127.0.0.1:{cls.operators}",
        }
        cls.server = cls.stack.enter_context(running_server(settings))

    @classmethod
    def start_collector(cls) -> int:
        agent = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        grpc_port, http_port = free_port(), free_port()
        command = [str(agent), "start", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}", "--otlp-http-endpoint"]
        command += [f"127.0.0.1:{http_port}", "--pid-file", str(cls.folder / "rotel.pid"), "--debug-log", "traces"]
        command += ["--debug-log-verbosity", "detailed", "--exporter", "blackhole"]
        cls.stack.enter_context(running(command, cls.spans))
        wait_until("the collector listens", lambda: is_listening(grpc_port))
        return grpc_port

    def ask(self, request: decisions.AuthorizeRequest, flags: str = "01") -> tuple[str, decisions.AuthorizeResponse]:
        """Decides within a trace of our own, and answers its id, too."""
        trace = secrets.token_hex(16)
        metadata = [("traceparent", f"00-{trace}-{SPAN}-{flags}")]
        stub = authorization_pb2_grpc.AuthorizationServiceStub(self.server.channel)
        return trace, stub.Authorize(request, metadata=metadata, timeout=PATIENCE_S)

    def decide(self, flags: str = "01") -> tuple[str, decisions.AuthorizeResponse]:
        return self.ask(deployment("payments-api-dev"), flags)

    def span_of(self, trace: str) -> str:
        """What the collector wrote of the span in `trace`."""
        wait_until(f"a span of trace {trace} arrives", lambda: trace in self.spans.read_text())
        # The rest of the same span may be on its way.
        wait_until("it is whole", lambda: "countersign.decision.id" in self.spans.read_text().split(trace, 1)[1])
        return self.spans.read_text().split(trace, 1)[1].split("Trace ID", 1)[0]

    def test_a_trace_of_a_client_goes_on_in_the_collector(self):
        trace, answer = self.decide()

        told = self.span_of(trace)

        self.assertIn(SPAN, told)
        self.assertIn(answer.decision_id, told)
        self.assertIn(answer.policy_version, told)
        for name in ATTRIBUTES:
            self.assertIn(name, told)
        self.assertNotIn("deploy-bot", told, "who asks is nothing for a trace")

    def test_a_trace_that_its_client_does_not_record_does_not_go_on(self):
        unsampled, _ = self.decide(flags="00")
        sampled, _ = self.decide()

        self.span_of(sampled)

        self.assertNotIn(unsampled, self.spans.read_text())

    def test_a_redemption_is_linked_to_the_call_that_opened_its_approval(self):
        request = deployment()
        opening, answer = self.ask(request)
        for name in ("sam", "yuki"):
            self.server.person(name).vote(answer.approval, approvals.VOTE_CHOICE_APPROVE)

        redeeming, answer = self.ask(changed(request, approval_id=answer.approval.id))

        self.assertEqual(answer.decision, decisions.DECISION_ALLOW)
        wait_until("the span of the redemption arrives", lambda: "countersign.link" in self.spans.read_text())
        told = self.spans.read_text().rsplit(redeeming, 1)[1]
        self.assertIn(opening, told)
        self.assertIn(answer.approval.id, told)

    def test_prometheus_likes_the_metrics(self):
        self.decide()
        code, metrics = get(self.operators, "/metrics")

        self.assertEqual(code, 200)
        checked = subprocess.run([tool("promtool"), "check", "metrics"], input=metrics, capture_output=True, text=True)

        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.assertRegex(metrics, r'countersign_decision_duration_seconds_count\{.*outcome="allow"')
        version = self.server.agent.authorize(deployment("payments-api-dev")).policy_version
        self.assertIn(f'countersign_policy_info{{policy_version="{version}"', re.sub(r",?otel[^,}]*", "", metrics))

    def test_it_is_alive_and_ready(self):
        self.assertEqual(get(self.operators, "/healthz/live"), (200, "alive\n"))
        self.assertEqual(get(self.operators, "/healthz/ready"), (200, "ready\n"))

    def test_the_alert_of_a_rejected_load_fires(self):
        port = self.start_prometheus()
        wait_until("Prometheus has scraped", lambda: self.query(port, "countersign_policy_last_load_rejected") == ["0"])
        broken = self.server.policies / "broken.cedar"
        broken.write_text("permit(")
        try:
            wait_until("the alert fires", lambda: "CountersignPolicyLoadRejected" in self.firing(port))
        finally:
            broken.unlink()
        wait_until("it is over", lambda: "CountersignPolicyLoadRejected" not in self.firing(port))

    def start_prometheus(self) -> int:
        port = free_port()
        rules = re.sub(r"(\n\s+for: )\S+", r"\g<1>0s", ALERTS.read_text())
        (self.folder / "alerts.yml").write_text(rules)
        (self.folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            "rule_files: [alerts.yml]\n"
            f"scrape_configs: [{{job_name: countersign, static_configs: [{{targets: ['127.0.0.1:{self.operators}']}}]}}]\n"
        )
        command = [tool("prometheus"), f"--config.file={self.folder / 'prometheus.yml'}", "--log.level=error"]
        command += [f"--storage.tsdb.path={self.folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"]
        self.enterContext(running(command, self.folder / "prometheus.log"))
        wait_until("Prometheus is ready", lambda: is_listening(port) and get(port, "/-/ready")[0] == 200)
        return port

    def query(self, port: int, expression: str) -> list[str]:
        _, answer = get(port, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        return [found["value"][1] for found in json.loads(answer)["data"]["result"]]

    def firing(self, port: int) -> set[str]:
        _, answer = get(port, "/api/v1/alerts")
        alerts = json.loads(answer)["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


# Whoever listens at the address of the webhook never answers, so that somebody is left to be told.
SERVED = """
[identity]
unauthenticated_callers = true
[channels.webhook.soc]
url = "http://127.0.0.1:{port}/hook"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
allow_http = true
allow_private_addresses = true
"""


class Documentation(unittest.TestCase):
    def test_handbook_dashboard_and_alerts_know_the_metrics_that_there_are(self):
        modules = os.environ["NODE_MODULES"]
        with tempfile.TemporaryDirectory(prefix="countersign-") as name:
            folder = pathlib.Path(name)
            scrapes = [folder / "plain.txt", folder / "tls.txt"]
            scrapes[0].write_text(self.scrape_with_approvals())
            scrapes[1].write_text(self.scrape_with_identities(folder))
            command = [sys.executable, ROOT / "tests" / "deploy" / "check_monitoring.py", "--metrics", *scrapes]

            checked = subprocess.run([*command, "--node-modules", modules], capture_output=True, text=True)

        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def scrape_with_approvals(self) -> str:
        port = free_port()
        settings = {"COUNTERSIGN_SERVER__OPERATORS": f"127.0.0.1:{port}"}
        with socket.create_server(("127.0.0.1", 0)) as silent:
            config = SERVED.format(port=silent.getsockname()[1])
            return self.scrape_while_somebody_waits(settings, config, port)

    def scrape_while_somebody_waits(self, settings: dict[str, str], config: str, port: int) -> str:
        with running_server(settings, config=config) as server:
            asked = json_format.ParseDict(GRANT, decisions.AuthorizeRequest())
            server.agent.authorize(asked)
            server.agent.authorize(deployment("payments-api-dev"))
            given_up = server.agent.authorize(deployment()).approval
            server.approvals.CancelApproval(approvals.CancelApprovalRequest(id=given_up.id), timeout=PATIENCE_S)
            with self.assertRaises(CallFailed):
                server.agent.authorize(decisions.AuthorizeRequest())
            wait_until("the message is overdue", lambda: "outbox_oldest_undelivered" in get(port, "/metrics")[1])
            return get(port, "/metrics")[1]

    def scrape_with_identities(self, folder: pathlib.Path) -> str:
        port = free_port()
        write_credentials(folder)
        with running_server({"COUNTERSIGN_SERVER__OPERATORS": f"127.0.0.1:{port}"}, config=CONFIG.format(folder=folder)):
            wait_until("keys were read", lambda: "signing_keys_fetched" in get(port, "/metrics")[1])
            return get(port, "/metrics")[1]


if __name__ == "__main__":
    unittest.main(verbosity=2)
