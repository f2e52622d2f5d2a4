"""What only the Python client does, against a server that answers as it is told.

`.ci/run` starts this; by hand as test_python_client.py.
"""

import contextlib
import unittest
from collections.abc import Iterator
from concurrent import futures

import grpc
from certificates import Authority
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from countersign.v1 import approval_pb2 as approvals
from countersign.v1 import approval_pb2_grpc, authorization_pb2_grpc
from countersign.v1 import authorization_pb2 as decisions
from countersign_client import Certificates, Countersign, Refused, loopback_channel, tls_channel

PATIENCE_S = 20


class Scripted(authorization_pb2_grpc.AuthorizationServiceServicer):
    """Answers one call after the other as `answers` says: a decision, or a status."""

    def __init__(self, answers: list[int | grpc.StatusCode]) -> None:
        self._answers = iter(answers)
        self.metadata: list[dict[str, str]] = []

    def Authorize(self, request: decisions.AuthorizeRequest, call: grpc.ServicerContext) -> decisions.AuthorizeResponse:
        self.metadata.append(dict(call.invocation_metadata()))
        answer = next(self._answers)
        if isinstance(answer, grpc.StatusCode):
            call.abort_with_status(rpc_status.to_status(as_status(answer)))
        return decisions.AuthorizeResponse(decision=answer)


def as_status(code: grpc.StatusCode) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message="not now")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(50)
    status.details.add().Pack(retry)
    return status


class CutOff(approval_pb2_grpc.ApprovalServiceServicer):
    """Streams one version after what the watcher has seen, and cuts it off twice."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def WatchApproval(
        self, request: approvals.WatchApprovalRequest, call: grpc.ServicerContext
    ) -> Iterator[approvals.WatchApprovalResponse]:
        self.seen.append(request.since_version)
        yield approvals.WatchApprovalResponse(approval=approvals.Approval(version=request.since_version + 1))
        if len(self.seen) < 3:
            call.abort_with_status(rpc_status.to_status(as_status(grpc.StatusCode.UNAVAILABLE)))


@contextlib.contextmanager
def scripted_server(script: Scripted | CutOff, credentials: grpc.ServerCredentials | None = None) -> Iterator[str]:
    stub = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    if isinstance(script, Scripted):
        authorization_pb2_grpc.add_AuthorizationServiceServicer_to_server(script, stub)
    else:
        approval_pb2_grpc.add_ApprovalServiceServicer_to_server(script, stub)
    if credentials is None:
        port = stub.add_insecure_port("127.0.0.1:0")
    else:
        port = stub.add_secure_port("127.0.0.1:0", credentials)
    stub.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        stub.stop(None).wait()


class Caution(unittest.TestCase):
    def test_everything_but_allow_is_a_no(self):
        for number in (decisions.DECISION_UNSPECIFIED, decisions.DECISION_DENY, decisions.DECISION_REQUIRE_APPROVAL, 99):
            with (
                self.subTest(number=number),
                scripted_server(Scripted([number] * 2)) as address,
                loopback_channel(address) as channel,
            ):
                client = Countersign(channel)

                self.assertFalse(client.may(decisions.AuthorizeRequest()))
                with self.assertRaises(Refused), client.permission(decisions.AuthorizeRequest()):
                    self.fail("the block was entered")

    def test_an_unavailable_server_is_asked_again(self):
        script = Scripted([grpc.StatusCode.UNAVAILABLE] * 2 + [decisions.DECISION_ALLOW])
        with scripted_server(script) as address, loopback_channel(address) as channel:
            self.assertTrue(Countersign(channel).may(decisions.AuthorizeRequest()))

        self.assertEqual(len(script.metadata), 3)

    def test_one_who_has_patience_asks_for_longer_than_the_channel_does(self):
        script = Scripted([grpc.StatusCode.UNAVAILABLE] * 5 + [decisions.DECISION_ALLOW])
        with scripted_server(script) as address, loopback_channel(address) as channel:
            with Countersign(channel).permission(decisions.AuthorizeRequest(), PATIENCE_S):
                pass

        self.assertEqual(len(script.metadata), 6)

    def test_other_errors_are_not_tried_again(self):
        script = Scripted([grpc.StatusCode.INVALID_ARGUMENT, decisions.DECISION_ALLOW])
        with scripted_server(script) as address, loopback_channel(address) as channel:
            self.assertFalse(Countersign(channel).may(decisions.AuthorizeRequest()))

        self.assertEqual(len(script.metadata), 1)

    def test_a_watcher_who_is_cut_off_goes_on_where_it_was(self):
        script = CutOff()
        with scripted_server(script) as address, loopback_channel(address) as channel:
            versions = [approval.version for approval in Countersign(channel).watch("a")]

        self.assertEqual(versions, [1, 2, 3])
        self.assertEqual(script.seen, [0, 1, 2])


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.authority = Authority()
        cls.credentials = grpc.ssl_server_credentials(
            [cls.authority.issue("localhost")], root_certificates=cls.authority.pem, require_client_auth=True
        )

    def test_both_sides_prove_themselves_and_the_token_is_read_before_every_call(self):
        key, chain = self.authority.issue("deploy-bot")
        tokens = iter(["first", "second"])
        script = Scripted([decisions.DECISION_ALLOW] * 2)

        with scripted_server(script, self.credentials) as address:
            with tls_channel(name(address), Certificates(self.authority.pem, chain, key), lambda: next(tokens)) as channel:
                client = Countersign(channel)
                self.assertTrue(client.may(decisions.AuthorizeRequest()))
                self.assertTrue(client.may(decisions.AuthorizeRequest()))

        sent = [metadata["authorization"] for metadata in script.metadata]
        self.assertEqual(sent, ["Bearer first", "Bearer second"])

    def test_a_caller_without_a_certificate_gets_no_answer(self):
        self.assert_no_answer(Certificates(self.authority.pem))

    def test_a_server_that_somebody_else_vouches_for_gets_no_question(self):
        key, chain = self.authority.issue("deploy-bot")
        self.assert_no_answer(Certificates(Authority().pem, chain, key))

    def test_without_a_token_the_call_is_not_made(self):
        key, chain = self.authority.issue("deploy-bot")

        def unreadable() -> str:
            raise FileNotFoundError("token")

        self.assert_no_answer(Certificates(self.authority.pem, chain, key), unreadable)

    def assert_no_answer(self, certificates, token=None):
        script = Scripted([decisions.DECISION_ALLOW])

        with scripted_server(script, self.credentials) as address:
            with tls_channel(name(address), certificates, token) as channel:
                self.assertFalse(Countersign(channel).may(decisions.AuthorizeRequest()))

        self.assertEqual(script.metadata, [])

    def test_a_key_is_not_shown(self):
        self.assertNotIn("secret", repr(Certificates(b"authority", b"chain", b"secret")))


def name(address: str) -> str:
    """The address by the name that the server's certificate has."""
    return address.replace("127.0.0.1", "localhost")


if __name__ == "__main__":
    unittest.main(verbosity=2)
