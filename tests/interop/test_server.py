"""Speaks to the real server through a gRPC implementation of other authors, knowing only what the server tells about itself.

No code is generated from our protos here: messages are built from server reflection, so that a description the server gives of
itself, and that does not fit what it does, is found. `.ci/run` starts this; by hand, from the top of the repository:

    BUF=path/to/buf target/ci/venv/bin/python tests/interop/test_server.py
"""

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamEnded, StreamReset, TrailersReceived

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTERSIGN = pathlib.Path(os.environ.get("COUNTERSIGN", ROOT / "target" / "debug" / "countersign")).resolve()

APPROVAL = "countersign.v1.ApprovalService"
AUTHORIZATION = "countersign.v1.AuthorizationService"
POLICY = "countersign.v1.PolicyService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

START_TIMEOUT_S = 30
CALL_TIMEOUT_S = 10
# Well below the 30 s after which Kubernetes kills what has not ended.
STOP_TIMEOUT_S = 10


def uid(text):
    """Reads `Agent::"capacity-bot"`, as policies write it."""
    entity_type, _, entity_id = text.rpartition("::")
    return {"type": entity_type, "id": entity_id.strip('"')}


def ask(principal, action, resource, context, **more):
    return {"principal": uid(principal), "action": action, "resource": uid(resource), "context": context, **more}


def instances(**changes):
    context = {"instance_type": "t3.small", "count": 2, "hourly_cost_cents": 4, "region": "eu-central-1", "public_ip": False}
    return {**context, **changes}


def script(**changes):
    context = {"script_sha256": "5f0c7e1a", "reviewed": True, "as_root": False, "destructive": False}
    return {**context, "hosts": ["web-prod-1", "web-prod-2"], "host_count": 2, **changes}


def release(**changes):
    provenance = {"builder": "github-actions", "commit": "9f2c1d7"}
    return {"version": "2.4.0", "migration": False, "provenance": provenance, **changes}


@dataclass(frozen=True)
class Case:
    name: str
    request: dict
    decision: str
    deny_reason: str = "UNSPECIFIED"
    determining: tuple = ()
    rules: tuple = ()


SMALL_START = ask('Agent::"capacity-bot"', "StartInstances", 'Environment::"dev"', instances())
PUBLIC_START = ask('Agent::"capacity-bot"', "StartInstances", 'Environment::"prod"', instances(public_ip=True))

# After policies/tests, where every line of the policies has its cases; here only the way to the answer is tested.
CASES = [
    Case(
        "an agent starts two small instances in dev",
        SMALL_START,
        "ALLOW",
        determining=("capacity-agents-start-instances",),
    ),
    Case(
        "an agent wants a public address in production",
        PUBLIC_START,
        "DENY",
        deny_reason="FORBIDDEN",
        determining=("no-public-ip-in-prod",),
    ),
    Case(
        "an agent starts costly instances in production",
        ask('Agent::"capacity-bot"', "StartInstances", 'Environment::"prod"', instances(count=40, hourly_cost_cents=2611)),
        "REQUIRE_APPROVAL",
        determining=("costly-instances-need-sign-off", "many-instances-need-sign-off", "prod-instances-need-sign-off"),
        rules=("cloud-spend",),
    ),
    Case(
        "a person runs a reviewed script",
        ask('User::"sam"', "RunScript", 'HostGroup::"web-prod"', script()),
        "ALLOW",
        determining=("sre-runs-scripts",),
    ),
    Case(
        "a person of another team runs a script",
        ask('User::"lee"', "RunScript", 'HostGroup::"web-prod"', script()),
        "DENY",
        deny_reason="NO_PERMIT",
    ),
    Case(
        "a person runs a script as root",
        ask('User::"sam"', "RunScript", 'HostGroup::"web-prod"', script(as_root=True), justification="Disk is full."),
        "REQUIRE_APPROVAL",
        determining=("root-scripts-need-sign-off",),
        rules=("prod-root",),
    ),
    Case(
        "a pipeline deploys its team's service",
        ask('Pipeline::"payments-ci"', "Deploy", 'Service::"payments-api"', release()),
        "ALLOW",
        determining=("payments-pipelines-deploy-payments",),
    ),
    Case(
        "a pipeline deploys what has no provenance",
        ask('Pipeline::"payments-ci"', "Deploy", 'Service::"payments-api-dev"', {"version": "2.5.0-rc1", "migration": False}),
        "DENY",
        deny_reason="FORBIDDEN",
        determining=("no-provenance-no-deploy",),
    ),
    Case(
        "an agent's migration in production needs both rules",
        ask(
            'Agent::"deploy-bot"',
            "Deploy",
            'Service::"payments-api"',
            release(migration=True),
            justification="Adds an index.",
        ),
        "REQUIRE_APPROVAL",
        determining=("migrations-need-the-change-board", "prod-deploy-is-reviewed"),
        rules=("change-board", "prod-deploy"),
    ),
    Case(
        "an agent that only the request describes deploys to production",
        {
            **ask('Agent::"deploy-run-8"', "Deploy", 'Service::"search"', release(), justification="Fixes a crash."),
            "principal": {
                "type": "Agent",
                "id": "deploy-run-8",
                "attributes": {"owner": {"type": "User", "id": "sofia"}, "suspended": False},
                "parents": [uid('Team::"delivery"')],
            },
        },
        "REQUIRE_APPROVAL",
        determining=("prod-deploy-is-reviewed",),
        rules=("prod-deploy",),
    ),
]


class Server:
    """A `countersign serve` of its own, on a free port, with a folder of its own for approvals."""

    def __init__(self, unix_path=None, config=""):
        self.folder = tempfile.TemporaryDirectory(prefix="countersign-")
        self.log = tempfile.TemporaryFile(mode="w+", prefix="countersign-")
        config_path = pathlib.Path(self.folder.name, "config.toml")
        config_path.write_text(config)
        self.process, self.address = start_process(self.log, unix_path, config_path)
        self.channel = grpc.insecure_channel(self.address)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        self.api = Api(self.channel)

    def wait_until_serving(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.health_of("") != SERVING:
            if time.monotonic() > deadline:
                raise AssertionError(f"not serving after {START_TIMEOUT_S} s; its log:\n{self.read_log()}")
            time.sleep(0.05)

    def health_of(self, service):
        request = health_pb2.HealthCheckRequest(service=service)
        return self.health.Check(request, timeout=CALL_TIMEOUT_S, wait_for_ready=True).status

    def read_log(self):
        return read_all(self.log)

    def stop(self):
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()
        self.folder.cleanup()


def start_process(log, unix_path, config_path):
    """Starts the binary and returns its process and TCP address; all that these tests know of the command line is here."""
    command = [COUNTERSIGN, "serve", "--policies", ROOT / "policies", "--listen", "127.0.0.1:0", "--config", config_path]
    environment = {
        **os.environ,
        "COUNTERSIGN_APPROVALS__PATH": str(config_path.with_name("approvals.sqlite")),
        "COUNTERSIGN_AUDIT__PATH": str(config_path.with_name("audit")),
        "COUNTERSIGN_AUDIT__HEADS": str(config_path.with_name("heads.txt")),
        # Who may call is tested elsewhere.
        "COUNTERSIGN_IDENTITY__UNAUTHENTICATED_CALLERS": "true",
    }
    if unix_path is not None:
        command += ["--unix", unix_path]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
    )
    ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    first_line = process.stdout.readline() if ready else ""
    try:
        return process, json.loads(first_line)["listening"][0]
    except (ValueError, LookupError, TypeError) as error:
        process.kill()
        process.wait()
        process.stdout.close()
        raise AssertionError(f"it printed {first_line!r} in place of its addresses; its log:\n{read_all(log)}") from error


def read_all(file):
    file.seek(0)
    return file.read()


@contextlib.contextmanager
def running_server(config=""):
    server = Server(config=config)
    try:
        server.wait_until_serving()
        yield server
    finally:
        server.stop()


class Api:
    """Calls methods by name, with messages as reflection describes them; requests and answers are dicts."""

    def __init__(self, channel):
        self.channel = channel
        self.reflection = ProtoReflectionDescriptorDatabase(channel)
        self.pool = DescriptorPool(self.reflection)

    def call(self, service, method, request, login=None):
        """Calls, as the person that `login` names where one is given."""
        answer_class = GetMessageClass(self.describe(service, method).output_type)
        invoke = self.channel.unary_unary(f"/{service}/{method}", response_deserializer=answer_class.FromString)
        metadata = [("authorization", f"Bearer development:{login}")] if login else []
        answer = invoke(self.serialized(service, method, request), timeout=CALL_TIMEOUT_S, metadata=metadata)
        return self.to_dict(answer)

    def stream(self, service, method, request):
        """Yields the answers of a call that has many."""
        answer_class = GetMessageClass(self.describe(service, method).output_type)
        invoke = self.channel.unary_stream(f"/{service}/{method}", response_deserializer=answer_class.FromString)
        for answer in invoke(self.serialized(service, method, request), timeout=CALL_TIMEOUT_S):
            yield self.to_dict(answer)

    def to_dict(self, answer):
        return MessageToDict(
            answer,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            descriptor_pool=self.pool,
        )

    def authorize(self, request):
        return self.call(AUTHORIZATION, "Authorize", request)

    def serialized(self, service, method, request):
        request_class = GetMessageClass(self.describe(service, method).input_type)
        return ParseDict(request, request_class(), descriptor_pool=self.pool).SerializeToString()

    def describe(self, service, method):
        return self.pool.FindServiceByName(service).methods_by_name[method]


SHARED = contextlib.ExitStack()
server = None
unix_path = None


def setUpModule():
    global server, unix_path
    folder = SHARED.enter_context(tempfile.TemporaryDirectory(prefix="countersign-"))
    unix_path = os.path.join(folder, "pdp.sock")
    server = Server(unix_path)
    SHARED.callback(server.stop)
    try:
        server.wait_until_serving()
    except BaseException:
        # unittest does not call tearDownModule when this fails.
        SHARED.close()
        raise


def tearDownModule():
    SHARED.close()


def decision(answer):
    return answer["decision"].removeprefix("DECISION_")


class Discovery(unittest.TestCase):
    def test_reflection_lists_the_services(self):
        services = set(server.api.reflection.get_services())

        self.assertLessEqual({APPROVAL, AUTHORIZATION, POLICY, "grpc.health.v1.Health"}, services)

    def test_every_service_is_healthy(self):
        for service in ["", APPROVAL, AUTHORIZATION, POLICY]:
            with self.subTest(service=service):
                self.assertEqual(server.health_of(service), SERVING)

    def test_the_health_of_an_unknown_service_is_not_found(self):
        with self.assertRaises(grpc.RpcError) as caught:
            server.health_of("countersign.v1.NoSuchService")

        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_buf_curl_finds_and_calls_authorize_through_reflection_v1(self):
        url = f"http://{server.address}/{AUTHORIZATION}/Authorize"
        command = [os.environ["BUF"], "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
        command += ["--reflect-protocol", "grpc-v1", "--data", json.dumps(SMALL_START), url]

        run = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(json.loads(run.stdout)["decision"], "DECISION_ALLOW")


class Decisions(unittest.TestCase):
    def test_the_sample_policies_decide(self):
        for case in CASES:
            with self.subTest(case.name):
                answer = server.api.authorize(case.request)

                self.assertEqual(decision(answer), case.decision)
                self.assertEqual(answer["deny_reason"].removeprefix("DENY_REASON_"), case.deny_reason)
                self.assertEqual([policy["id"] for policy in answer["determining"]], list(case.determining))
                self.assertEqual(asked_rules(answer), list(case.rules))

    def test_the_same_request_in_check_mode_gets_the_same_decision(self):
        for case in CASES:
            with self.subTest(case.name):
                self.assertEqual(decision(server.api.authorize({**case.request, "mode": "MODE_CHECK"})), case.decision)

    def test_every_answer_has_an_id_of_its_own(self):
        first, second = (server.api.authorize(SMALL_START) for _ in range(2))

        self.assertTrue(first["decision_id"])
        self.assertNotEqual(first["decision_id"], second["decision_id"])

    def test_a_unix_socket_serves_the_same_decisions(self):
        # By itself grpcio sends the escaped path as authority, which HTTP/2 does not allow and the server refuses.
        with grpc.insecure_channel(f"unix:{unix_path}", [("grpc.default_authority", "localhost")]) as channel:
            answer = Api(channel).authorize(PUBLIC_START)

        self.assertEqual(decision(answer), "DENY")

    def test_the_policy_status_names_the_version_that_decides(self):
        status = server.api.call(POLICY, "GetPolicyStatus", {})

        self.assertTrue(status["active"]["version"])
        self.assertTrue(status["last_attempt"]["succeeded"])
        self.assertEqual(server.api.authorize(SMALL_START)["policy_version"], status["active"]["version"])


def asked_rules(answer):
    return [requirement["rule"] for requirement in answer.get("approval", {}).get("requirements", [])]


class Batches(unittest.TestCase):
    def test_a_batch_keeps_its_order_around_a_bad_request(self):
        bad = ask('Agent::"capacity-bot"', "StartInstances", 'Environment::"dev"', instances(count="two"))
        requests = [SMALL_START, bad, PUBLIC_START, *(case.request for case in CASES)]

        results = server.api.call(AUTHORIZATION, "BatchAuthorize", {"requests": requests})["results"]

        self.assertEqual(len(results), len(requests))
        self.assertEqual(decision(results[0]["response"]), "ALLOW")
        self.assertNotIn("response", results[1])
        self.assertEqual(results[1]["error"]["code"], grpc.StatusCode.INVALID_ARGUMENT.value[0])
        self.assertRegex(results[1]["error"]["field"], r"^requests\[1\]\.context")
        self.assertEqual(decision(results[2]["response"]), "DENY")
        self.assertEqual([decision(result["response"]) for result in results[3:]], [case.decision for case in CASES])

    def test_all_decisions_of_a_batch_come_from_one_policy_version(self):
        requests = [case.request for case in CASES]

        results = server.api.call(AUTHORIZATION, "BatchAuthorize", {"requests": requests})["results"]

        self.assertEqual(len({result["response"]["policy_version"] for result in results}), 1)


class Refusals(unittest.TestCase):
    def test_a_context_value_of_the_wrong_type_is_named(self):
        self.assert_refused(instances(count="two"), "context")

    def test_a_fraction_in_the_context_is_named(self):
        self.assert_refused(instances(count=1.5), "context")

    def test_a_null_in_the_context_is_named(self):
        self.assert_refused(instances(public_ip=None), "context")

    def test_an_integer_that_json_would_round_is_named(self):
        self.assert_refused(instances(count=2**53), "context")

    def test_a_missing_context_value_is_named(self):
        context = instances()
        del context["public_ip"]

        self.assert_refused(context, "context")

    def test_an_unknown_action_is_named(self):
        request = ask('Agent::"capacity-bot"', "StartInstance", 'Environment::"dev"', instances())

        info = self.assert_request_refused(request, "action")

        self.assertEqual(info.reason.removeprefix("ERROR_REASON_"), "UNKNOWN_ACTION")
        self.assertEqual(info.domain, "countersign.v1")

    def assert_refused(self, context, field):
        self.assert_request_refused(ask('Agent::"capacity-bot"', "StartInstances", 'Environment::"dev"', context), field)

    def assert_request_refused(self, request, field):
        with self.assertRaises(grpc.RpcError) as caught:
            server.api.authorize(request)

        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        violations = detail(caught.exception, error_details_pb2.BadRequest).field_violations
        self.assertRegex(violations[0].field, rf"^{field}\b")
        self.assertTrue(violations[0].description)
        return detail(caught.exception, error_details_pb2.ErrorInfo)


def detail(error, message_class):
    """The one detail of a class that an error carries."""
    message = message_class()
    status = rpc_status.from_call(error)
    found = [any_message for any_message in status.details if any_message.Is(message.DESCRIPTOR)] if status else []
    if len(found) != 1:
        raise AssertionError(f"{len(found)} details of {message.DESCRIPTOR.full_name} in: {error}")
    found[0].Unpack(message)
    return message


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WEBHOOK_CONFIG = """
[identity]
development_logins = true
unauthenticated_callers = true
[channels.webhook.soc]
url = "http://127.0.0.1:{port}/hook"
secret = "{secret}"
allow_http = true
allow_private_addresses = true
"""
GRANT = {
    **ask('Agent::"helpdesk-bot"', "GrantRole", 'RoleAssignment::"lee-reads-logs"', {"valid_for": "1h"}),
    "resource": {
        "type": "RoleAssignment",
        "id": "lee-reads-logs",
        "attributes": {"role": uid('Role::"log-reader"'), "beneficiary": uid('User::"lee"')},
    },
    "justification": "Lee is on call tonight.",
    "request_id": "grant-1",
}


class Approvals(unittest.TestCase):
    def test_a_person_approves_and_the_request_runs_once(self):
        with running_receiver() as receiver:
            port = int(receiver.stdout.readline())
            with running_server(WEBHOOK_CONFIG.format(port=port, secret=SECRET)) as keeping:
                self.live(keeping.api, receiver)

    def live(self, api, receiver):
        answer = api.authorize(GRANT)
        self.assertEqual(decision(answer), "REQUIRE_APPROVAL")
        approval = answer["approval"]
        self.assert_told(receiver, approval["id"], "approval.opened", "PENDING")
        versions = api.stream(APPROVAL, "WatchApproval", {"id": approval["id"]})
        self.assertEqual(status(next(versions)), "PENDING")
        vote = {name: approval[name] for name in ["id", "request_digest", "view_digest"]}
        vote["choice"] = "VOTE_CHOICE_APPROVE"

        self.assert_no_vote(api, vote, None, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        self.assert_no_vote(api, vote, "hana", grpc.StatusCode.PERMISSION_DENIED, "OWN_REQUEST")
        self.assert_no_vote(api, vote, "lee", grpc.StatusCode.PERMISSION_DENIED, "NOT_ELIGIBLE")
        self.assertTrue(api.call(APPROVAL, "Vote", vote, login="omar")["counted"])

        self.assertEqual(status(next(versions)), "APPROVED")
        self.assert_told(receiver, approval["id"], "approval.changed", "APPROVED")
        redeeming = {**GRANT, "approval_id": approval["id"]}
        first, again = (api.authorize(redeeming) for _ in range(2))
        self.assertEqual([decision(first), decision(again)], ["ALLOW", "ALLOW"])
        self.assertEqual(first["decision_id"], again["decision_id"])
        self.assertEqual(status(next(versions)), "REDEEMED")
        self.assert_told(receiver, approval["id"], "approval.changed", "REDEEMED")
        denied = api.authorize({**redeeming, "request_id": "grant-2"})
        self.assertEqual(denied["deny_reason"], "DENY_REASON_APPROVAL_REDEEMED")

    def assert_no_vote(self, api, vote, login, code, reason):
        with self.assertRaises(grpc.RpcError) as caught:
            api.call(APPROVAL, "Vote", vote, login=login)

        self.assertEqual(caught.exception.code(), code)
        self.assertEqual(detail(caught.exception, error_details_pb2.ErrorInfo).reason, reason)

    def assert_told(self, receiver, approval_id, event, expected):
        told = json.loads(receiver.stdout.readline())

        self.assertTrue(told["verified"], told)
        body = json.loads(told["body"])
        self.assertEqual((body["type"], body["data"]["status"]), (event, expected))
        self.assertEqual(told["id"], f"{approval_id}_{body['data']['version']}")


def status(answer):
    return answer["approval"]["status"].removeprefix("APPROVAL_STATUS_")


@contextlib.contextmanager
def running_receiver():
    """Verifies webhooks with a library of other authors; prints its port, then what it gets."""
    command = [sys.executable, pathlib.Path(__file__).with_name("webhook_receiver.py"), SECRET]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            yield receiver
        finally:
            receiver.kill()


class Deadlines(unittest.TestCase):
    def test_the_server_itself_notices_that_the_deadline_passed(self):
        # Sent frame by frame: grpcio rounds a deadline up to a millisecond, in which the server may well have answered.
        call = server.api.serialized(AUTHORIZATION, "Authorize", SMALL_START)

        answer = raw_unary_call(server.address, f"/{AUTHORIZATION}/Authorize", call, {"grpc-timeout": "1u"})

        self.assertEqual(answer["grpc-status"], str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0]), answer)

    def test_a_deadline_that_leaves_time_changes_nothing(self):
        call = server.api.serialized(AUTHORIZATION, "Authorize", SMALL_START)

        answer = raw_unary_call(server.address, f"/{AUTHORIZATION}/Authorize", call, {"grpc-timeout": "10S"})

        self.assertEqual(answer["grpc-status"], str(grpc.StatusCode.OK.value[0]), answer)


def raw_unary_call(address, path, message, more_headers):
    """Calls without a gRPC library, which would keep some headers to itself; returns headers and trailers in one dict."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":authority": address,
        ":path": path,
        "content-type": "application/grpc",
        "te": "trailers",
        **more_headers,
    }
    http2 = H2Connection(H2Configuration(header_encoding="utf-8"))
    http2.initiate_connection()
    stream = http2.get_next_available_stream_id()
    http2.send_headers(stream, list(headers.items()))
    # One gRPC message: not compressed, its length, itself.
    http2.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)

    answer = {}
    with connect(address) as connection:
        connection.sendall(http2.data_to_send())
        while received := connection.recv(65_536):
            for event in http2.receive_data(received):
                if isinstance(event, (ResponseReceived, TrailersReceived)):
                    answer.update(event.headers)
                if isinstance(event, (StreamEnded, StreamReset)):
                    return answer
            connection.sendall(http2.data_to_send())
    return answer


class Shutdown(unittest.TestCase):
    def test_a_silent_connection_and_a_watch_do_not_keep_the_server(self):
        # Port scanners and some load balancers connect and then say nothing.
        with running_server() as stopping, connect(stopping.address):
            watch = watch_health(stopping)
            self.assertEqual(next(watch).status, SERVING)

            stopping.process.send_signal(signal.SIGTERM)

            self.assertEqual(self.exit_code(stopping), 0, stopping.read_log())

    def test_watchers_hear_that_the_server_stops_serving(self):
        with running_server() as stopping:
            watch = watch_health(stopping)
            self.assertEqual(next(watch).status, SERVING)

            stopping.process.send_signal(signal.SIGTERM)

            self.assertEqual(statuses_until_the_end(watch), [NOT_SERVING])
            self.assertEqual(self.exit_code(stopping), 0, stopping.read_log())

    def exit_code(self, stopping):
        try:
            return stopping.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return self.fail(f"still running {STOP_TIMEOUT_S} s after SIGTERM; its log:\n{stopping.read_log()}")


def connect(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=CALL_TIMEOUT_S)


def watch_health(stopping):
    return stopping.health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=2 * STOP_TIMEOUT_S)


def statuses_until_the_end(watch):
    statuses = []
    # A server that goes away may end the stream with an error; what it said before is what counts.
    with contextlib.suppress(grpc.RpcError):
        statuses.extend(update.status for update in watch)
    return statuses


if __name__ == "__main__":
    unittest.main(verbosity=2)
