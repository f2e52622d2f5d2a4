"""Runs the Python client of examples/python against the real server, and holds the server to what it tells clients.

`.ci/run` starts this; by hand, from the top of the repository:

    bash examples/python/generate.sh
    PYTHONPATH=examples/python/generated:examples/python target/ci/venv/bin/python tests/interop/test_python_client.py
"""

import base64
import contextlib
import pathlib
import re
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from countersign.v1 import approval_pb2 as approvals
from countersign.v1 import audit_pb2, policy_pb2, policy_pb2_grpc
from countersign.v1 import authorization_pb2 as decisions
from countersign_client import (
    CallFailed,
    Countersign,
    Refused,
    context,
    entity,
    fresh_key,
)
from serving import ROOT, Server, changed, deployment, running_server
from test_server import raw_unary_call

PATIENCE_S = 20

PENDING, APPROVED, REDEEMED = (
    approvals.APPROVAL_STATUS_PENDING,
    approvals.APPROVAL_STATUS_APPROVED,
    approvals.APPROVAL_STATUS_REDEEMED,
)
DENIED, EXPIRED = approvals.APPROVAL_STATUS_DENIED, approvals.APPROVAL_STATUS_EXPIRED
APPROVE, DENY = approvals.VOTE_CHOICE_APPROVE, approvals.VOTE_CHOICE_DENY
SUCCEEDED, FAILED = approvals.APPROVAL_OUTCOME_SUCCEEDED, approvals.APPROVAL_OUTCOME_FAILED


SHARED = contextlib.ExitStack()
server: Server


def setUpModule() -> None:
    global server
    server = SHARED.enter_context(running_server())


def tearDownModule() -> None:
    SHARED.close()


# ---- Requests ----


def opened(request: decisions.AuthorizeRequest) -> approvals.Approval:
    answer = server.agent.authorize(request)
    assert answer.decision == decisions.DECISION_REQUIRE_APPROVAL, answer
    return answer.approval


def approve(approval: approvals.Approval, *names: str) -> None:
    for name in names:
        server.person(name).vote(approval, APPROVE)


def approved(request: decisions.AuthorizeRequest) -> approvals.Approval:
    approval = opened(request)
    approve(approval, "sam", "yuki")
    return approval


def read(approval_id: str) -> approvals.Approval:
    return server.approvals.GetApproval(approvals.GetApprovalRequest(id=approval_id), timeout=PATIENCE_S).approval


# ---- Decisions ----


class Decisions(unittest.TestCase):
    def test_what_is_permitted_is_allowed(self):
        request = deployment("payments-api-dev")

        self.assertEqual(server.agent.authorize(request).decision, decisions.DECISION_ALLOW)
        self.assertTrue(server.agent.may(request))

    def test_what_is_forbidden_is_refused_with_the_policy_that_forbids(self):
        request = deployment("payments-api-dev", provenance={"builder": "a-laptop", "commit": "9f2c1d7"})

        with self.assertRaises(Refused) as caught, server.agent.permission(request):
            self.fail("the block was entered")

        self.assertEqual(caught.exception.answer.deny_reason, decisions.DENY_REASON_FORBIDDEN)
        self.assertEqual([policy.id for policy in caught.exception.answer.determining], ["no-provenance-no-deploy"])

    def test_what_needs_approval_is_not_allowed(self):
        self.assertFalse(server.agent.may(deployment()))

    def test_an_error_is_not_allowed(self):
        self.assertFalse(server.agent.may(decisions.AuthorizeRequest()))

    def test_the_trace_of_the_caller_is_recorded_with_the_decision(self):
        trace = "0af7651916cd43dd8448eb211c80319c"
        agent = Countersign(server.channel, traceparent=f"00-{trace}-b7ad6b7169203331-01")

        decision_id = agent.authorize(deployment("payments-api-dev")).decision_id

        self.assertEqual(self.recorded(decision_id).decision.trace_id.hex(), trace)

    def recorded(self, decision_id):
        """The record of a decision, as soon as it is there: decisions are written a moment after they are given."""
        request = audit_pb2.QueryRecordsRequest(filter=audit_pb2.RecordFilter(decision_id=decision_id))
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            parts = server.audit.QueryRecords(
                request, timeout=PATIENCE_S, metadata=[("authorization", "Bearer development:dana")]
            )
            for part in parts:
                if part.HasField("record"):
                    return part.record.record
            time.sleep(0.05)
        raise AssertionError(f"decision {decision_id} is not in the log")


class Numbers(unittest.TestCase):
    def test_an_integer_that_a_double_holds_exactly_is_taken(self):
        self.assertEqual(self.decision(2**53 - 1), decisions.DECISION_REQUIRE_APPROVAL)

    def test_an_integer_beyond_that_is_refused(self):
        for count in (2**53, 2**53 + 1, -(2**53)):
            with self.subTest(count=count), self.assertRaises(CallFailed) as caught:
                self.decision(count)

            self.assertIn("context.count", caught.exception.fields)

    def test_a_64_bit_version_is_a_text_in_json(self):
        self.assertEqual(MessageToDict(opened(deployment()))["version"], "1")

    def decision(self, count):
        request = decisions.AuthorizeRequest(
            principal=entity("Agent", "capacity-bot"),
            action="StartInstances",
            resource=entity("Environment", "dev"),
            context=context(
                {
                    "instance_type": "t3.small",
                    "count": count,
                    "hourly_cost_cents": 4,
                    "region": "eu-central-1",
                    "public_ip": False,
                }
            ),
            mode=decisions.MODE_CHECK,
        )
        return server.agent.authorize(request).decision


# ---- Approvals ----


class Approvals(unittest.TestCase):
    def test_after_two_people_approved_the_block_runs_and_its_end_is_reported(self):
        request = deployment()
        approval = opened(request)
        people = threading.Timer(0.2, approve, [approval, "sam", "yuki"])
        people.start()

        with server.agent.permission(request, PATIENCE_S) as answer:
            self.assertEqual(answer.decision, decisions.DECISION_ALLOW)
            self.assertFalse(answer.cacheable)
            self.assertEqual(read(approval.id).redemption.outcome, approvals.APPROVAL_OUTCOME_UNSPECIFIED)

        people.join()
        self.assertEqual(read(approval.id).redemption.outcome, SUCCEEDED)
        self.assertEqual(read(approval.id).redemption.decision_id, answer.decision_id)

    def test_a_block_that_fails_is_reported_as_failed(self):
        request = deployment()
        approval = approved(request)

        with self.assertRaises(ZeroDivisionError), server.agent.permission(request, PATIENCE_S):
            raise ZeroDivisionError

        self.assertEqual(read(approval.id).redemption.outcome, FAILED)
        self.assertEqual(read(approval.id).redemption.detail, "ZeroDivisionError")

    def test_a_second_answer_under_the_same_request_id_is_the_same_decision(self):
        request = deployment()
        redeeming = changed(request, approval_id=approved(request).id)

        first, again = (server.agent.authorize(redeeming) for _ in range(2))

        self.assertEqual([first.decision, again.decision], [decisions.DECISION_ALLOW] * 2)
        self.assertEqual(first.decision_id, again.decision_id)

    def test_a_second_use_under_another_request_id_is_refused(self):
        request = deployment()
        redeeming = changed(request, approval_id=approved(request).id)
        server.agent.authorize(redeeming)

        with self.assertRaises(Refused) as caught, server.agent.permission(changed(redeeming, request_id=fresh_key())):
            self.fail("the block was entered")

        self.assertEqual(caught.exception.answer.deny_reason, decisions.DENY_REASON_APPROVAL_REDEEMED)

    def test_another_request_cannot_use_the_approval(self):
        approval = approved(deployment())

        answer = server.agent.authorize(changed(deployment(), approval_id=approval.id))

        self.assertEqual(answer.deny_reason, decisions.DENY_REASON_APPROVAL_MISMATCH)

    def test_one_no_is_enough_and_the_request_cools_down(self):
        request = deployment()
        approval = opened(request)
        server.person("sam").vote(approval, DENY, "not on a Friday")

        self.assertEqual(server.agent.wait(approval.id, PATIENCE_S).status, DENIED)
        closed = server.agent.authorize(changed(request, approval_id=approval.id))
        cooling = server.agent.authorize(changed(request, request_id=fresh_key()))

        self.assertEqual(closed.deny_reason, decisions.DENY_REASON_APPROVAL_CLOSED)
        self.assertIn("not on a Friday", closed.deny_message)
        self.assertEqual(cooling.deny_reason, decisions.DENY_REASON_COOLING_DOWN)

    def test_an_approval_that_nobody_gave_expires_and_allows_nothing(self):
        with running_server(change_policies=shorten_waiting) as hasty:
            request = deployment()
            approval_id = hasty.agent.authorize(request).approval.id

            self.assertEqual(hasty.agent.wait(approval_id, PATIENCE_S).status, EXPIRED)
            answer = hasty.agent.authorize(changed(request, approval_id=approval_id))

        self.assertEqual(answer.deny_reason, decisions.DENY_REASON_APPROVAL_CLOSED)

    def test_waiting_ends_when_patience_does(self):
        approval = opened(deployment())

        self.assertEqual(server.agent.wait(approval.id, patience_s=0.2).status, PENDING)

    def test_a_caller_without_patience_is_refused_and_may_come_back(self):
        request = deployment()

        with self.assertRaises(Refused) as caught, server.agent.permission(request):
            self.fail("the block was entered")

        self.assertEqual(caught.exception.answer.decision, decisions.DECISION_REQUIRE_APPROVAL)
        approve(caught.exception.answer.approval, "sam", "yuki")
        with server.agent.permission(request) as answer:
            self.assertEqual(answer.decision, decisions.DECISION_ALLOW)

    def test_a_watcher_sees_every_change_to_the_end(self):
        request = deployment()
        approval = opened(request)
        versions = server.agent.watch(approval.id)

        seen = [next(versions).status]
        server.person("sam").vote(approval, APPROVE)
        seen.append(next(versions).status)
        server.person("yuki").vote(approval, APPROVE)
        seen.append(next(versions).status)
        with server.agent.permission(request, PATIENCE_S):
            seen.append(next(versions).status)
        seen += [version.status for version in versions]

        self.assertEqual(seen, [PENDING, PENDING, APPROVED, REDEEMED, REDEEMED])

    def test_a_watcher_who_comes_back_misses_what_it_has_seen_and_nothing_else(self):
        approval = opened(deployment())
        server.person("sam").vote(approval, APPROVE)

        version = next(server.agent.watch(approval.id, since_version=approval.version))

        self.assertGreater(version.version, approval.version)


def shorten_waiting(policies: pathlib.Path) -> None:
    rules = policies / "approvals.toml"
    rules.write_text(re.sub(r'^(expires_after *=) ".*"', r'\1 "1s"', rules.read_text(), flags=re.MULTILINE))
    # What happens after it has expired already cannot be configured.
    rules.write_text(re.sub(r"^(remind|escalate)_\w+ .*\n", "", rules.read_text(), flags=re.MULTILINE))


# ---- Errors ----


@dataclass(frozen=True)
class Failure:
    """A call that fails, and how."""

    reason: str
    code: grpc.StatusCode
    call: Callable[[], object]


def described(entity_type: str, entity_id: str) -> decisions.Entity:
    """Attributes make a name a description, even if there are none."""
    return decisions.Entity(type=entity_type, id=entity_id, attributes=context({}))


def report(approval_id: str) -> object:
    return server.agent.report(approval_id, SUCCEEDED)


def vote_twice() -> object:
    approval = opened(deployment())
    approve(approval, "sam")
    return server.person("sam").vote(approval, APPROVE)


def vote_after_a_no() -> object:
    approval = opened(deployment())
    server.person("sam").vote(approval, DENY)
    return server.person("yuki").vote(approval, APPROVE)


def vote_on_something_else() -> object:
    approval, other = opened(deployment()), opened(deployment())
    other.id = approval.id
    return server.person("sam").vote(other, APPROVE)


def revoke(name: str) -> object:
    approval = opened(deployment())
    metadata = [("authorization", f"Bearer development:{name}")]
    return server.approvals.RevokeApproval(approvals.RevokeApprovalRequest(id=approval.id), timeout=PATIENCE_S, metadata=metadata)


def cancel(name: str) -> object:
    approval = opened(deployment())
    metadata = [("authorization", f"Bearer development:{name}")]
    return server.approvals.CancelApproval(approvals.CancelApprovalRequest(id=approval.id), timeout=PATIENCE_S, metadata=metadata)


def authorize_twice_under_one_key() -> object:
    key = fresh_key()
    opened(changed(deployment(), request_id=key))
    return server.agent.authorize(changed(deployment(), request_id=key))


def ask(**fields: object) -> object:
    return server.agent.authorize(changed(deployment(), **fields))


INVALID = grpc.StatusCode.INVALID_ARGUMENT
WRONG_STATE = grpc.StatusCode.FAILED_PRECONDITION
NOT_PERMITTED = grpc.StatusCode.PERMISSION_DENIED

# What one server answers; the others below take a server with other settings.
FAILURES = [
    Failure("INVALID_REQUEST", INVALID, lambda: server.agent.authorize(decisions.AuthorizeRequest())),
    Failure("UNKNOWN_ACTION", INVALID, lambda: ask(action="Deplay")),
    Failure("UNKNOWN_ENTITY_TYPE", INVALID, lambda: ask(resource=entity("Servise", ""))),
    Failure("ACTION_DOES_NOT_APPLY", INVALID, lambda: ask(principal=entity("User", "sam"))),
    Failure("SCHEMA_MISMATCH", INVALID, lambda: server.agent.authorize(deployment(migration="no"))),
    Failure("ENTITY_REDEFINED", INVALID, lambda: ask(principal=described("Agent", "deploy-bot"))),
    Failure("DUPLICATE_ENTITY", INVALID, lambda: ask(entities=[described("Team", "night"), described("Team", "night")])),
    Failure("LIMIT_EXCEEDED", INVALID, lambda: ask(labels={str(number): "" for number in range(33)})),
    Failure("POLICY_VERSION_NOT_REACHED", WRONG_STATE, lambda: ask(min_policy_version="0" * 64)),
    Failure("APPROVAL_NOT_FOUND", grpc.StatusCode.NOT_FOUND, lambda: report("no-such-approval")),
    Failure("ALREADY_RESOLVED", WRONG_STATE, vote_after_a_no),
    Failure("STILL_PENDING", WRONG_STATE, lambda: revoke("sam")),
    Failure("ALREADY_VOTED", WRONG_STATE, vote_twice),
    Failure("OWN_REQUEST", NOT_PERMITTED, lambda: approve(opened(deployment()), "sofia")),
    Failure("NOT_ELIGIBLE", NOT_PERMITTED, lambda: approve(opened(deployment()), "lee")),
    Failure("DIGEST_MISMATCH", WRONG_STATE, vote_on_something_else),
    Failure("NOT_THE_REQUESTER", NOT_PERMITTED, lambda: cancel("lee")),
    Failure("REQUEST_ID_REUSED", INVALID, authorize_twice_under_one_key),
    Failure("OUTCOME_NOT_ACCEPTED", WRONG_STATE, lambda: report(opened(deployment()).id)),
    Failure("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED, lambda: server.agent.vote(opened(deployment()), APPROVE)),
    Failure("MAY_NOT_READ", NOT_PERMITTED, lambda: query(server, "lee")),
    Failure(
        "NOT_IN_THE_LOG",
        grpc.StatusCode.NOT_FOUND,
        lambda: server.audit.GetCheckpoint(
            audit_pb2.GetCheckpointRequest(log="no-such-log"),
            timeout=PATIENCE_S,
            metadata=[("authorization", "Bearer development:dana")],
        ),
    ),
]
# Each has a test of its own in `Errors`.
WITH_OTHER_SETTINGS = {
    "APPROVALS_NOT_AVAILABLE",
    "AUDIT_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "NO_POLICIES",
    "POLICY_LOAD_FAILED",
    "TOO_MANY_APPROVALS",
}
# Each has a test of its own in test_python_callers.py.
OF_CALLERS = {"CALLER_NOT_PERMITTED", "CREDENTIAL_NOT_CHECKED", "PRINCIPAL_NOT_BOUND", "RATE_LIMITED"}
# The server fails in a way it should not, or has more to do than one test can give it.
NOT_REACHABLE = {"INTERNAL", "OVERLOADED"}


class Errors(unittest.TestCase):
    def test_every_reason_is_tried(self):
        tried = {failure.reason for failure in FAILURES} | WITH_OTHER_SETTINGS | OF_CALLERS | NOT_REACHABLE

        names = {name.removeprefix("ERROR_REASON_") for name in decisions.ErrorReason.keys()}
        self.assertEqual(names - {"UNSPECIFIED"}, tried)

    def test_a_call_fails_with_its_reason(self):
        for failure in FAILURES:
            with self.subTest(failure.reason):
                self.assert_fails(failure)

    def assert_fails(self, failure):
        with self.assertRaises((CallFailed, grpc.RpcError)) as caught:
            failure.call()

        error = caught.exception
        failed = error if isinstance(error, CallFailed) else CallFailed.of(error)
        self.assertEqual((failed.reason, failed.code), (failure.reason, failure.code), failed.message)
        self.assertTrue(failed.message)
        self.assertEqual(bool(failed.fields), failure.code == INVALID)
        self.assertEqual(failed.retry_after_s is not None, failure.code.name in {"UNAVAILABLE", "RESOURCE_EXHAUSTED"})
        return failed

    def test_a_server_without_policies_says_when_to_ask_again(self):
        with running_server(change_policies=lambda folder: (folder / "deploy.cedar").write_text("permit")) as empty:
            failed = self.assert_fails(
                Failure("NO_POLICIES", grpc.StatusCode.UNAVAILABLE, lambda: empty.agent.authorize(deployment()))
            )

        self.assertEqual(failed.retry_after_s, 1)

    def test_policies_that_cannot_be_loaded_are_refused(self):
        with running_server() as reloading:
            (reloading.policies / "deploy.cedar").write_text("permit")
            stub = policy_pb2_grpc.PolicyServiceStub(reloading.channel)

            self.assert_fails(
                Failure(
                    "POLICY_LOAD_FAILED",
                    WRONG_STATE,
                    lambda: stub.ReloadPolicies(policy_pb2.ReloadPoliciesRequest(), timeout=PATIENCE_S),
                )
            )
            self.assertTrue(reloading.agent.may(deployment("payments-api-dev")))

    def test_a_server_that_keeps_no_approvals_redeems_none(self):
        with running_server({"COUNTERSIGN_APPROVALS__STORE": "none"}) as forgetful:
            request = changed(deployment(), approval_id="a")

            self.assert_fails(
                Failure("APPROVALS_NOT_AVAILABLE", grpc.StatusCode.UNIMPLEMENTED, lambda: forgetful.agent.authorize(request))
            )

    def test_a_requester_who_asks_for_too_many_approvals_is_told_the_limit(self):
        with running_server({"COUNTERSIGN_APPROVALS__PENDING_PER_REQUESTER": "1"}) as strict:
            strict.agent.authorize(deployment())

            failed = self.assert_fails(
                Failure("TOO_MANY_APPROVALS", grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: strict.agent.authorize(deployment()))
            )

        self.assertEqual(failed.metadata, {"limit": "pending_per_requester", "value": "1"})

    def test_a_server_that_records_nothing_has_no_log_to_read(self):
        with running_server({"COUNTERSIGN_AUDIT__ENABLED": "false"}) as silent:
            self.assert_fails(Failure("AUDIT_UNAVAILABLE", grpc.StatusCode.UNIMPLEMENTED, lambda: query(silent, "dana")))

    def test_a_call_ends_at_its_deadline_and_may_be_made_again(self):
        request = approvals.WaitApprovalRequest(id=opened(deployment()).id, timeout=Duration(seconds=30))

        with self.assertRaises(grpc.RpcError) as caught:
            server.approvals.WaitApproval(request, timeout=0.2)

        failed = CallFailed.of(caught.exception)
        self.assertEqual(failed.code, grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertIsNotNone(failed.retry_after_s)

    def test_a_deadline_that_the_server_saw_pass_has_its_reason(self):
        # Sent frame by frame: a gRPC library ends the call by itself and does not wait for what the server says of it.
        message = deployment("payments-api-dev").SerializeToString()
        path = "/countersign.v1.AuthorizationService/Authorize"

        answer = raw_unary_call(server.address, path, message, {"grpc-timeout": "1u"})

        self.assertEqual(answer["grpc-status"], str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0]))
        self.assertEqual(reason_of(answer["grpc-status-details-bin"]), "DEADLINE_EXCEEDED")

    def test_a_message_that_is_too_large_is_refused_by_the_transport(self):
        with self.assertRaises(CallFailed) as caught:
            server.agent.authorize(changed(deployment(), justification="x" * 65_536))

        self.assertEqual(caught.exception.code, grpc.StatusCode.OUT_OF_RANGE)
        self.assertEqual(caught.exception.reason, "")
        self.assertIsNone(caught.exception.retry_after_s)


def query(asked: Server, name: str) -> object:
    metadata = [("authorization", f"Bearer development:{name}")]
    return list(asked.audit.QueryRecords(audit_pb2.QueryRecordsRequest(), timeout=PATIENCE_S, metadata=metadata))


def reason_of(header: str) -> str:
    status = status_pb2.Status.FromString(base64.b64decode(header + "=="))
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)
    return info.reason


class Reflection(unittest.TestCase):
    def test_the_server_lists_the_services_that_the_protos_declare(self):
        services = set(ProtoReflectionDescriptorDatabase(server.channel).get_services())

        for name in ("ApprovalService", "AuditService", "AuthorizationService", "PolicyService"):
            self.assertIn(f"countersign.v1.{name}", services)


# ---- The example ----


class Example(unittest.TestCase):
    def test_the_deploying_agent_runs_to_its_end(self):
        run = self.run_agent("--people", "sam,yuki", "--patience", str(PATIENCE_S))

        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertRegex(
            run.stdout, r'approved by User::"sam", User::"yuki"\ndeploying \S+ to payments-api\nonce more: refused\n$'
        )

    def test_without_people_it_does_not_deploy_to_production(self):
        run = self.run_agent("--patience", "0.5")

        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertNotRegex(run.stdout, "(?m)^deploying .* to payments-api$")

    def test_what_it_says_to_install_is_what_is_tested(self):
        named, tested = (
            set(re.findall(r"^[\w-]+==[\w.]+", (ROOT / folder / "requirements.txt").read_text(), re.MULTILINE))
            for folder in ("examples/python", "tests/interop")
        )

        self.assertTrue(named)
        self.assertLessEqual(named, tested)

    def run_agent(self, *arguments):
        command = [sys.executable, ROOT / "examples" / "python" / "deploy_agent.py", "--server", server.address, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    unittest.main(verbosity=2)
