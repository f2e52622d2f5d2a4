"""Runs the Python client against a server that asks callers who they are: by certificates and by tokens.

`.ci/run` starts this; by hand as test_python_client.py.
"""

import base64
import contextlib
import json
import pathlib
import tempfile
import time
import unittest
from collections.abc import Callable

import grpc
from certificates import Authority
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from countersign.v1 import authorization_pb2 as decisions
from countersign.v1 import policy_pb2, policy_pb2_grpc
from countersign_client import CallFailed, Certificates, Countersign, entity, tls_channel
from serving import Server, changed, deployment, running_server

PATIENCE_S = 20
ISSUER, DEAD_ISSUER = "https://issuer.example", "https://dead.example"

CONFIG = """
[tls]
certificate = "{folder}/server.pem"
key = "{folder}/server.key"
client_ca = "{folder}/authority.pem"
client = "optional"
trust_domains = ["example.org"]

[issuer.agents]
issuer = "https://issuer.example"
audiences = ["countersign"]
algorithms = ["ES256"]
keys_file = "{folder}/keys.json"

# Nobody answers at this address.
[issuer.dead]
issuer = "https://dead.example"
audiences = ["countersign"]
algorithms = ["ES256"]
keys_url = "http://127.0.0.1:1/keys.json"

[caller.deployer]
spiffe = "spiffe://example.org/deploy-bot"
services = ["AuthorizationService"]
speaks_for = ['Agent::"deploy-bot"']

[caller.other]
spiffe = "spiffe://example.org/other"
services = ["AuthorizationService"]
speaks_for = ["Agent"]

[caller.hasty]
spiffe = "spiffe://example.org/hasty"
services = ["AuthorizationService"]
speaks_for = ["Agent"]
calls_per_second = 1
burst = 1

[caller.agents]
issuer = "agents"
services = ["AuthorizationService"]
speaks_for = ["Agent"]
"""


class Issuer:
    """Signs tokens, and publishes the key that they are checked with."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def keys(self) -> dict[str, object]:
        numbers = self._key.public_key().public_numbers()
        x, y = (base64url(number.to_bytes(32)) for number in (numbers.x, numbers.y))
        return {"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig", "alg": "ES256", "x": x, "y": y}]}

    def token(self, **changes: object) -> str:
        now = int(time.time())
        header = {"alg": "ES256", "typ": "JWT", "kid": "1"}
        claims = {"iss": ISSUER, "aud": "countersign", "sub": "deploy-run-8", "iat": now, "exp": now + 300, **changes}
        signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{base64url(r.to_bytes(32) + s.to_bytes(32))}"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


SHARED = contextlib.ExitStack()
AUTHORITY, KNOWN_ISSUER = Authority(), Issuer()
server: Server


def write_credentials(folder: pathlib.Path) -> None:
    """Writes the files that CONFIG names."""
    key, chain = AUTHORITY.issue("localhost")
    (folder / "server.key").write_bytes(key)
    (folder / "server.key").chmod(0o600)
    (folder / "server.pem").write_bytes(chain)
    (folder / "authority.pem").write_bytes(AUTHORITY.pem)
    (folder / "keys.json").write_text(json.dumps(KNOWN_ISSUER.keys()))


def setUpModule() -> None:
    global server
    folder = pathlib.Path(SHARED.enter_context(tempfile.TemporaryDirectory(prefix="countersign-")))
    write_credentials(folder)
    try:
        server = SHARED.enter_context(running_server(config=CONFIG.format(folder=folder)))
    except BaseException:
        # unittest does not call tearDownModule when this fails.
        SHARED.close()
        raise


def tearDownModule() -> None:
    SHARED.close()


class Callers(unittest.TestCase):
    def test_a_service_is_known_by_its_certificate(self):
        client = self.service("deploy-bot")

        self.assertEqual(client.authorize(deployment("payments-api-dev")).decision, decisions.DECISION_ALLOW)

    def test_a_service_speaks_for_its_own_principal_only(self):
        request = deployment("payments-api-dev")
        request.principal.CopyFrom(entity("Agent", "ops-bot"))

        failed = self.failure(lambda: self.service("deploy-bot").authorize(request))

        self.assertEqual((failed.reason, failed.code), ("PRINCIPAL_NOT_BOUND", grpc.StatusCode.PERMISSION_DENIED))

    def test_a_service_calls_what_its_binding_names_only(self):
        stub = policy_pb2_grpc.PolicyServiceStub(self.channel("deploy-bot"))

        with self.assertRaises(grpc.RpcError) as caught:
            stub.ReloadPolicies(policy_pb2.ReloadPoliciesRequest(), timeout=PATIENCE_S)

        failed = CallFailed.of(caught.exception)
        self.assertEqual((failed.reason, failed.code), ("CALLER_NOT_PERMITTED", grpc.StatusCode.PERMISSION_DENIED))

    def test_a_service_that_calls_too_often_is_told_when_to_call_again(self):
        client = self.service("hasty")
        request = deployment("payments-api-dev")

        failed = self.failure(lambda: [client.authorize(request) for _ in range(20)])

        self.assertEqual((failed.reason, failed.code), ("RATE_LIMITED", grpc.StatusCode.RESOURCE_EXHAUSTED))
        self.assertEqual(failed.metadata["limit"], "calls_per_second")
        self.assertGreater(failed.retry_after_s, 0)
        # Patience is all it takes.
        with client.permission(request, PATIENCE_S):
            pass

    def test_a_service_is_known_by_its_token(self):
        client = self.bearer(KNOWN_ISSUER.token)

        self.assertEqual(client.authorize(deployment("payments-api-dev")).decision, decisions.DECISION_ALLOW)

    def test_a_token_that_ended_is_no_credential(self):
        past = int(time.time()) - 3600
        self.assert_unauthenticated(lambda: KNOWN_ISSUER.token(iat=past, exp=past + 300))

    def test_a_token_that_somebody_else_signed_is_no_credential(self):
        self.assert_unauthenticated(Issuer().token)

    def test_a_token_for_somebody_else_is_no_credential(self):
        self.assert_unauthenticated(lambda: KNOWN_ISSUER.token(aud="payroll"))

    def test_without_a_credential_nothing_is_decided(self):
        self.assert_unauthenticated(None)

    def test_a_token_that_cannot_be_checked_now_may_be_good_later(self):
        client = self.bearer(lambda: KNOWN_ISSUER.token(iss=DEAD_ISSUER))

        failed = self.failure(lambda: client.authorize(deployment("payments-api-dev"), timeout_s=PATIENCE_S))

        self.assertEqual((failed.reason, failed.code), ("CREDENTIAL_NOT_CHECKED", grpc.StatusCode.UNAVAILABLE))
        self.assertIsNotNone(failed.retry_after_s)

    def test_an_approval_is_redeemed_by_the_caller_that_asked_for_it(self):
        request = deployment()
        approval = self.service("deploy-bot").authorize(request).approval

        answer = self.service("other").authorize(changed(request, approval_id=approval.id))

        self.assertEqual(answer.deny_reason, decisions.DENY_REASON_APPROVAL_MISMATCH)

    def assert_unauthenticated(self, token: Callable[[], str] | None) -> None:
        failed = self.failure(lambda: self.bearer(token).authorize(deployment("payments-api-dev")))

        self.assertEqual((failed.reason, failed.code), ("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED))
        self.assertIsNone(failed.retry_after_s)

    def failure(self, call: Callable[[], object]) -> CallFailed:
        with self.assertRaises(CallFailed) as caught:
            call()
        return caught.exception

    def service(self, name: str) -> Countersign:
        return Countersign(self.channel(name))

    def channel(self, name: str) -> grpc.Channel:
        key, chain = AUTHORITY.issue(f"spiffe://example.org/{name}")
        return self.closed_at_the_end(tls_channel(self.address(), Certificates(AUTHORITY.pem, chain, key)))

    def bearer(self, token: Callable[[], str] | None) -> Countersign:
        return Countersign(self.closed_at_the_end(tls_channel(self.address(), Certificates(AUTHORITY.pem), token)))

    def closed_at_the_end(self, channel: grpc.Channel) -> grpc.Channel:
        self.addCleanup(channel.close)
        return channel

    def address(self) -> str:
        """By the name that the server's certificate has."""
        return server.address.replace("127.0.0.1", "localhost")


if __name__ == "__main__":
    unittest.main(verbosity=2)
