"""A client of Countersign, to copy and to change.

It asks, it acts on ALLOW only, and it waits for people where policies ask for them. The rules it follows are in docs/clients.md.
It needs the code that `generate.sh` makes, in the folder that PYTHONPATH names.
"""

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from countersign.v1 import approval_pb2 as approvals
from countersign.v1 import approval_pb2_grpc, authorization_pb2_grpc
from countersign.v1 import authorization_pb2 as decisions

# The server answers within a millisecond or so; what takes longer is the way to it, or writing down what was decided.
DECISION_TIMEOUT_S = 2.0
# Below what proxies give a call in which nothing moves.
ONE_WAIT_S = 30.0
# After this time a watch is started anew, so that one is not waited for that the network has cut off without a word.
ONE_WATCH_S = 600.0
# How long an answer may be under way after the time that the server was asked to wait.
ANSWER_MARGIN_S = 5.0
# When a call is repeated that failed without saying when.
DEFAULT_PAUSE_S = 1.0
ERROR_DOMAIN = "countersign.v1"

# gRPC itself repeats what came back as UNAVAILABLE, within the call's deadline. Every call here may be repeated: it reads, or it
# has a `request_id`.
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "countersign.v1.AuthorizationService"}, {"service": "countersign.v1.ApprovalService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
CHANNEL_OPTIONS = [("grpc.service_config", json.dumps(SERVICE_CONFIG))]

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


# ---- Channels ----


def loopback_channel(address: str) -> grpc.Channel:
    """Connects without TLS: for a server on this machine."""
    return grpc.insecure_channel(address, CHANNEL_OPTIONS)


@dataclass(frozen=True)
class Certificates:
    """PEM texts: the authority that signed the server's certificate, and what this caller proves itself with, if it does."""

    authority: bytes
    chain: bytes | None = None
    key: bytes | None = field(default=None, repr=False)


def tls_channel(address: str, certificates: Certificates, token: Callable[[], str] | None = None) -> grpc.Channel:
    """Connects with TLS, with both sides proving themselves where a chain and a key are given.

    `token` is asked for a bearer token before every call, so that it can renew one that ends. gRPC sends it over TLS only.
    """
    transport = grpc.ssl_channel_credentials(certificates.authority, certificates.key, certificates.chain)
    if token is not None:
        transport = grpc.composite_channel_credentials(transport, grpc.metadata_call_credentials(_BearerToken(token)))
    return grpc.secure_channel(address, transport, CHANNEL_OPTIONS)


class _BearerToken(grpc.AuthMetadataPlugin):
    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            metadata = (("authorization", f"Bearer {self._token()}"),)
        except Exception as error:  # Whatever kept the token away, the call must fail and not go without it.
            callback((), error)
        else:
            callback(metadata, None)


# ---- Requests and what goes wrong ----


def entity(entity_type: str, entity_id: str) -> decisions.Entity:
    """Names an entity that the server stores."""
    return decisions.Entity(type=entity_type, id=entity_id)


def context(values: Mapping[str, Any]) -> Struct:
    """The circumstances of a request. Numbers are integers within 2^53 - 1 of zero, and there is no None."""
    struct = Struct()
    struct.update(values)
    return struct


# Not frozen, because Python itself writes to exceptions while it raises them.
@dataclass(eq=False)
class CallFailed(Exception):
    """A call failed: there is no answer. Where a decision was asked for, the action must not be done."""

    code: grpc.StatusCode
    message: str
    # Such as `SCHEMA_MISMATCH`; empty if it was not Countersign that answered.
    reason: str = ""
    # What programs want to know beside the reason, such as how an approval stands.
    metadata: Mapping[str, str] = field(default_factory=dict)
    # What is wrong with which field of the request.
    fields: Mapping[str, str] = field(default_factory=dict)
    # After how many seconds the same call may be better off; None if it has to be changed first.
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: grpc.RpcError) -> "CallFailed":
        """Reads what a gRPC error carries."""
        status = rpc_status.from_call(error)
        details = status.details if status is not None else []
        info, request, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        found = [_unpacked(details, message) for message in (info, request, retry)]
        retry_after_s = None
        if found[2]:
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
        elif error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            retry_after_s = DEFAULT_PAUSE_S
        return cls(
            code=error.code(),
            message=error.details() or "",
            reason=info.reason if info.domain == ERROR_DOMAIN else "",
            metadata=dict(info.metadata),
            fields={violation.field: violation.description for violation in request.field_violations},
            retry_after_s=retry_after_s,
        )

    def __str__(self) -> str:
        return f"{self.reason or self.code.name}: {self.message}"


def _unpacked(details: Any, message: Message) -> bool:
    """Fills `message` from the detail of its type, if there is one."""
    return any(detail.Is(message.DESCRIPTOR) and detail.Unpack(message) for detail in details)


class Refused(Exception):
    """The answer is not ALLOW, whatever else it is. The action must not be done."""

    def __init__(self, answer: decisions.AuthorizeResponse) -> None:
        super().__init__(answer.deny_message or f"{_name(answer)}, decision {answer.decision_id}")
        self.answer = answer


def _name(answer: decisions.AuthorizeResponse) -> str:
    """The decision in words. A server that is newer than this file may send numbers that have no name here."""
    if answer.decision == decisions.DECISION_DENY and answer.deny_reason in decisions.DenyReason.values():
        return decisions.DenyReason.Name(answer.deny_reason).removeprefix("DENY_REASON_")
    if answer.decision in decisions.Decision.values():
        return decisions.Decision.Name(answer.decision).removeprefix("DECISION_")
    return f"unknown decision {answer.decision}"


# ---- The client ----


class Countersign:
    """Calls Countersign over a channel, which may be shared by threads and by several of these."""

    def __init__(self, channel: grpc.Channel, *, loopback_token: str | None = None, traceparent: str | None = None) -> None:
        """`loopback_token` is a bearer token for a channel without TLS; `traceparent` says to which trace the calls belong."""
        self._authorization = authorization_pb2_grpc.AuthorizationServiceStub(channel)
        self._approvals = approval_pb2_grpc.ApprovalServiceStub(channel)
        self._metadata = []
        if loopback_token is not None:
            self._metadata.append(("authorization", f"Bearer {loopback_token}"))
        if traceparent is not None:
            self._metadata.append(("traceparent", traceparent))

    def may(self, request: decisions.AuthorizeRequest) -> bool:
        """Whether the action may be done now. An error is a no."""
        try:
            return self.authorize(request).decision == decisions.DECISION_ALLOW
        except CallFailed as failure:
            logger.warning("no decision, so not allowed: %s", failure)
            return False

    def authorize(
        self, request: decisions.AuthorizeRequest, timeout_s: float = DECISION_TIMEOUT_S
    ) -> decisions.AuthorizeResponse:
        """Asks for a decision. Anything but DECISION_ALLOW in the answer, a number without a name among it, is a no."""
        answer: decisions.AuthorizeResponse = self._call(self._authorization.Authorize, request, timeout_s)
        return answer

    @contextlib.contextmanager
    def permission(self, request: decisions.AuthorizeRequest, patience_s: float = 0) -> Iterator[decisions.AuthorizeResponse]:
        """Enters its block only with ALLOW, and reports how the block ended where people had approved it.

        Waits up to `patience_s` for these people, and for a server that asks to be called again. Raises `Refused` or
        `CallFailed`.
        """
        end = time.monotonic() + patience_s
        answer, redeemed_id = self._ask(request, end)
        if answer.decision != decisions.DECISION_ALLOW:
            raise Refused(answer)
        try:
            yield answer
        except Exception as error:
            self._report_if(redeemed_id, approvals.APPROVAL_OUTCOME_FAILED, type(error).__name__)
            raise
        # A process that is told to stop reports nothing; the server then says UNKNOWN by itself.
        self._report_if(redeemed_id, approvals.APPROVAL_OUTCOME_SUCCEEDED, "")

    def wait(self, approval_id: str, patience_s: float) -> approvals.Approval:
        """Waits until an approval is not pending any more, or the time is up.

        What it returns is a hint: only redeeming decides.
        """
        end = time.monotonic() + patience_s
        while True:
            approval = self._repeat(lambda: self._wait_once(approval_id, end), end)
            if approval.status != approvals.APPROVAL_STATUS_PENDING or time.monotonic() >= end:
                return approval

    def watch(self, approval_id: str, since_version: int = 0) -> Iterator[approvals.Approval]:
        """Yields an approval as it is and after every change, until nothing can change. Connects again where it was cut off."""
        while True:
            request = approvals.WatchApprovalRequest(id=approval_id, since_version=since_version)
            call = self._approvals.WatchApproval(request, timeout=ONE_WATCH_S, metadata=self._metadata)
            try:
                for answer in call:
                    since_version = answer.approval.version
                    yield answer.approval
                return
            except grpc.RpcError as error:
                failure = CallFailed.of(error)
                if failure.retry_after_s is None:
                    raise failure from error
                time.sleep(failure.retry_after_s)
            finally:
                call.cancel()

    def vote(self, shown: approvals.Approval, choice: approvals.VoteChoice, comment: str = "") -> approvals.VoteResponse:
        """Votes on an approval, as the person was shown it: the digests in `shown` bind the vote to that."""
        request = approvals.VoteRequest(
            id=shown.id,
            choice=choice,
            request_digest=shown.request_digest,
            view_digest=shown.view_digest,
            comment=comment,
            request_id=fresh_key(),
        )
        answer: approvals.VoteResponse = self._call(self._approvals.Vote, request)
        return answer

    def report(self, approval_id: str, outcome: approvals.ApprovalOutcome, detail: str = "") -> approvals.Approval:
        """Says what became of a request that was allowed by redeeming."""
        request = approvals.ReportOutcomeRequest(id=approval_id, outcome=outcome, detail=detail, request_id=fresh_key())
        approval: approvals.Approval = self._call(self._approvals.ReportOutcome, request).approval
        return approval

    def _ask(self, request: decisions.AuthorizeRequest, end: float) -> tuple[decisions.AuthorizeResponse, str]:
        """Asks, waits for people if it must, and asks again with their approval; also says which approval allowed it."""
        asked = decisions.AuthorizeRequest()
        asked.CopyFrom(request)
        # One key for one intended action. With it a call whose answer was lost can be repeated, and redeems only once.
        asked.request_id = request.request_id or fresh_key()
        answer = self._repeat(lambda: self.authorize(asked), end)
        if answer.decision == decisions.DECISION_REQUIRE_APPROVAL and answer.approval.id:
            self.wait(answer.approval.id, end - time.monotonic())
            asked.approval_id = answer.approval.id
            # The approval is not looked at. Whether it helps is decided by the server, under the policies of now.
            answer = self._repeat(lambda: self.authorize(asked), end)
        return answer, asked.approval_id

    def _wait_once(self, approval_id: str, end: float) -> approvals.Approval:
        # No timeout at all would be the server's own of 30 s.
        timeout_s = max(min(end - time.monotonic(), ONE_WAIT_S), 0.001)
        request = approvals.WaitApprovalRequest(id=approval_id, timeout=_duration(timeout_s))
        approval: approvals.Approval = self._call(self._approvals.WaitApproval, request, timeout_s + ANSWER_MARGIN_S).approval
        return approval

    def _report_if(self, approval_id: str, outcome: approvals.ApprovalOutcome, detail: str) -> None:
        if not approval_id:
            return
        try:
            self.report(approval_id, outcome, detail)
        except CallFailed as failure:
            # What was done is done: a lost report must not make it look like a failure.
            logger.warning("the outcome of approval %s could not be reported: %s", approval_id, failure)

    def _call(self, method: Callable[..., Any], request: Message, timeout_s: float = DECISION_TIMEOUT_S) -> Any:
        try:
            return method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise CallFailed.of(error) from error

    def _repeat(self, call: Callable[[], Answer], end: float) -> Answer:
        while True:
            try:
                return call()
            except CallFailed as failure:
                if failure.retry_after_s is None or time.monotonic() + failure.retry_after_s > end:
                    raise
                time.sleep(failure.retry_after_s)


def fresh_key() -> str:
    """A `request_id` for something new."""
    return str(uuid.uuid4())


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1_000_000_000))
    return duration
