"""An agent that deploys: at once to development, never without provenance, and to production after two people said yes.

    countersign serve --dev                                              # in one terminal
    PYTHONPATH=examples/python/generated python examples/python/deploy_agent.py --people sam,yuki

Without `--people` it says how to approve, and waits. Exit codes: 0 deployed, 1 refused, 2 no answer.
"""

import argparse
import secrets
import sys
import threading

from countersign.v1 import approval_pb2 as approvals
from countersign.v1 import authorization_pb2 as decisions

from countersign_client import CallFailed, Countersign, Refused, context, entity, fresh_key, loopback_channel

AGENT = entity("Agent", "deploy-bot")
PROVENANCE = {"builder": "github-actions", "commit": "61d0e42"}


def deployment(service: str, version: str, provenance: dict[str, str] | None = PROVENANCE) -> decisions.AuthorizeRequest:
    """What is asked is built from what will be done, by one function, so that the two cannot differ."""
    values = {"version": version, "migration": False}
    if provenance is not None:
        values["provenance"] = provenance
    return decisions.AuthorizeRequest(
        principal=AGENT,
        action="Deploy",
        resource=entity("Service", service),
        context=context(values),
        justification=f"Release {version} fixes the double charge of last night.",
        request_id=fresh_key(),
    )


def deploy(request: decisions.AuthorizeRequest) -> None:
    """Where the work would be done."""
    print(f"deploying {request.context['version']} to {request.resource.id}")


def main() -> int:
    arguments = read_arguments()
    with loopback_channel(arguments.server) as channel:
        # A trace of its own for each run; a real agent passes on the one that it is part of.
        agent = Countersign(channel, traceparent=f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01")
        try:
            return run(agent, arguments)
        except Refused as refused:
            print(f"refused: {refused}")
            return 1
        except CallFailed as failure:
            print(f"no answer: {failure}", file=sys.stderr)
            return 2


def run(agent: Countersign, arguments: argparse.Namespace) -> int:
    version = f"2.5.{secrets.randbelow(1_000_000)}"

    request = deployment("payments-api-dev", version)
    with agent.permission(request):
        deploy(request)

    unproven = deployment("payments-api-dev", version, provenance=None)
    print(f"without provenance: {'allowed' if agent.may(unproven) else 'refused'}")

    request = deployment("payments-api", version)
    waiting = agent.authorize(request).approval
    if waiting.id:
        ask_people(arguments, waiting)
    # The same request with the same `request_id`, so nobody is asked twice.
    with agent.permission(request, patience_s=arguments.patience) as answer:
        print(f"approved by {', '.join(vote.person.account for vote in answer.approval.votes)}")
        deploy(request)

    # The grant was for one deployment.
    again = deployment("payments-api", version)
    again.approval_id = waiting.id
    print(f"once more: {'allowed' if agent.may(again) else 'refused'}")
    return 0


def ask_people(arguments: argparse.Namespace, approval: approvals.Approval) -> None:
    """Plays the people whom `--people` names, a moment later; or says what they would have to do."""
    print(f"waiting for approval {approval.id}")
    if not arguments.people:
        print(f"  countersign approvals approve {approval.id} --server {arguments.server} --as NAME")
        return
    threading.Timer(0.2, approve, [arguments.server, approval, arguments.people.split(",")]).start()


def approve(server: str, approval: approvals.Approval, people: list[str]) -> None:
    with loopback_channel(server) as channel:
        for name in people:
            person = Countersign(channel, loopback_token=f"development:{name}")
            person.vote(approval, approvals.VOTE_CHOICE_APPROVE)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Deploys as an agent that asks Countersign first.")
    parser.add_argument("--server", default="127.0.0.1:50051", help="where `countersign serve --dev` listens")
    parser.add_argument("--people", default="", help="who approves in this play, such as sam,yuki")
    parser.add_argument("--patience", type=float, default=600, help="how long to wait for people, in seconds")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
