// Runs the TypeScript client of examples/typescript against the real server, and holds the server to what it tells clients.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { create, toJsonString } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Metadata, status as Status } from "@grpc/grpc-js";

import {
  ApprovalOutcome,
  ApprovalSchema,
  ApprovalService,
  ApprovalStatus,
  CancelApprovalRequestSchema,
  GetApprovalRequestSchema,
  RevokeApprovalRequestSchema,
  VoteChoice,
  WaitApprovalRequestSchema,
} from "../../../examples/typescript/generated/countersign/v1/approval_pb.js";
import type { Approval } from "../../../examples/typescript/generated/countersign/v1/approval_pb.js";
import {
  AuditService,
  GetCheckpointRequestSchema,
  GetInclusionProofRequestSchema,
  ListLogsRequestSchema,
} from "../../../examples/typescript/generated/countersign/v1/audit_pb.js";
import {
  Decision,
  DenyReason,
  ErrorReasonSchema,
  Mode,
} from "../../../examples/typescript/generated/countersign/v1/authorization_pb.js";
import type { AuthorizeRequest } from "../../../examples/typescript/generated/countersign/v1/authorization_pb.js";
import { PolicyService, ReloadPoliciesRequestSchema } from "../../../examples/typescript/generated/countersign/v1/policy_pb.js";
import { CallFailed, Refused } from "../../../examples/typescript/src/countersign-client.js";
import type { RequestFields } from "../../../examples/typescript/src/countersign-client.js";
import { unary } from "../../../examples/typescript/src/grpc.js";
import { Server, withServer } from "./server.js";

const PATIENCE_MS = 20_000;

let server: Server;
before(async () => {
  server = await Server.start();
});
after(() => server.stop());

// ---- Requests ----

/** A deployment that nobody has asked for before: to production it takes two people of the SRE team. */
function deployment(service = "payments-api", changes: Record<string, string | boolean> = {}) {
  const provenance = { builder: "github-actions", commit: "9f2c1d7" };
  return {
    principal: { type: "Agent", id: "deploy-bot" },
    action: "Deploy",
    resource: { type: "Service", id: service },
    context: { version: randomUUID(), migration: false, provenance, ...changes },
    justification: "Fixes a crash.",
    requestId: randomUUID(),
  } satisfies RequestFields;
}

function instances(count: number): RequestFields {
  return {
    principal: { type: "Agent", id: "capacity-bot" },
    action: "StartInstances",
    resource: { type: "Environment", id: "dev" },
    context: { instance_type: "t3.small", count, hourly_cost_cents: 4, region: "eu-central-1", public_ip: false },
    mode: Mode.CHECK,
  };
}

async function opened(request: RequestFields): Promise<Approval> {
  const { decision, approval } = await server.agent.authorize(request);
  assert.equal(decision, Decision.REQUIRE_APPROVAL);
  assert(approval !== undefined);
  return approval;
}

async function approve(approval: Approval, ...names: string[]): Promise<void> {
  for (const name of names) {
    await server.person(name).vote(approval, VoteChoice.APPROVE);
  }
}

async function approved(request: RequestFields): Promise<Approval> {
  const approval = await opened(request);
  await approve(approval, "sam", "yuki");
  return approval;
}

async function read(id: string): Promise<Approval> {
  const request = create(GetApprovalRequestSchema, { id });
  const { approval } = await unary(server.channel, ApprovalService.method.getApproval, request, new Metadata(), inTime());
  assert(approval !== undefined);
  return approval;
}

function as(name: string): Metadata {
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer development:${name}`);
  return metadata;
}

function inTime() {
  return { deadline: Date.now() + PATIENCE_MS };
}

/** Asks for permission that must not be given; returns the answer. */
async function refused(request: RequestFields) {
  const asked = server.agent.withPermission(request, 0, async () => assert.fail("it was done"));
  const error = await asked.then(
    () => assert.fail("it was allowed"),
    (error: unknown) => error,
  );
  assert(error instanceof Refused, String(error));
  return error.answer;
}

// ---- Decisions ----

describe("decisions", () => {
  test("what is permitted is allowed", async () => {
    assert.equal(await server.agent.may(deployment("payments-api-dev")), true);
  });

  test("what is forbidden is refused with the policy that forbids", async () => {
    const answer = await refused({ ...deployment("payments-api-dev"), context: { version: "1", migration: false } });

    assert.equal(answer.denyReason, DenyReason.FORBIDDEN);
    assert.deepEqual(
      answer.determining.map((policy) => policy.id),
      ["no-provenance-no-deploy"],
    );
  });

  test("what needs approval is not allowed", async () => {
    assert.equal(await server.agent.may(deployment()), false);
  });

  test("an error is not allowed", async () => {
    assert.equal(await server.agent.may({}), false);
  });
});

describe("numbers", () => {
  test("an integer that a double holds exactly is taken", async () => {
    const { decision } = await server.agent.authorize(instances(Number.MAX_SAFE_INTEGER));

    assert.equal(decision, Decision.REQUIRE_APPROVAL);
  });

  test("an integer beyond that is refused", async () => {
    const failed = await failure(() => server.agent.authorize(instances(Number.MAX_SAFE_INTEGER + 1)));

    assert.deepEqual([...failed.fields.keys()], ["context.count"]);
  });

  test("a 64-bit version is a bigint, and a text in JSON", async () => {
    const approval = await opened(deployment());

    assert.equal(approval.version, 1n);
    assert.match(toJsonString(ApprovalSchema, approval), /"version":"1"/);
  });
});

// ---- Approvals ----

describe("approvals", () => {
  test("after two people approved the action is done and its end is reported", async () => {
    const request = deployment();
    const approval = await opened(request);
    const people = sleep(200).then(() => approve(approval, "sam", "yuki"));

    const decisionId = await server.agent.withPermission(request, PATIENCE_MS, async (answer) => {
      assert.equal(answer.cacheable, false);
      assert.equal((await read(approval.id)).redemption?.outcome, ApprovalOutcome.UNSPECIFIED);
      return answer.decisionId;
    });

    await people;
    const { redemption } = await read(approval.id);
    assert.equal(redemption?.outcome, ApprovalOutcome.SUCCEEDED);
    assert.equal(redemption?.decisionId, decisionId);
  });

  test("an action that fails is reported as failed", async () => {
    const request = deployment();
    const { id } = await approved(request);

    const done = server.agent.withPermission(request, PATIENCE_MS, () => Promise.reject(new RangeError("no such cluster")));

    await assert.rejects(done, RangeError);
    const { redemption } = await read(id);
    assert.equal(redemption?.outcome, ApprovalOutcome.FAILED);
    assert.equal(redemption?.detail, "RangeError");
  });

  test("a second answer under the same request id is the same decision", async () => {
    const request = deployment();
    const redeeming = { ...request, approvalId: (await approved(request)).id };

    const first = await server.agent.authorize(redeeming);
    const again = await server.agent.authorize(redeeming);

    assert.deepEqual([first.decision, again.decision], [Decision.ALLOW, Decision.ALLOW]);
    assert.equal(first.decisionId, again.decisionId);
  });

  test("a second use under another request id is refused", async () => {
    const request = deployment();
    const redeeming = { ...request, approvalId: (await approved(request)).id };
    await server.agent.authorize(redeeming);

    const answer = await refused({ ...redeeming, requestId: randomUUID() });

    assert.equal(answer.denyReason, DenyReason.APPROVAL_REDEEMED);
  });

  test("another request cannot use the approval", async () => {
    const { id } = await approved(deployment());

    const answer = await refused({ ...deployment(), approvalId: id });

    assert.equal(answer.denyReason, DenyReason.APPROVAL_MISMATCH);
  });

  test("one no is enough and the request cools down", async () => {
    const request = deployment();
    const approval = await opened(request);
    await server.person("sam").vote(approval, VoteChoice.DENY, "not on a Friday");

    assert.equal((await server.agent.wait(approval.id, PATIENCE_MS)).status, ApprovalStatus.DENIED);
    const closed = await refused({ ...request, approvalId: approval.id });
    const cooling = await refused({ ...request, requestId: randomUUID() });

    assert.equal(closed.denyReason, DenyReason.APPROVAL_CLOSED);
    assert.match(closed.denyMessage, /not on a Friday/);
    assert.equal(cooling.denyReason, DenyReason.COOLING_DOWN);
  });

  test("an approval that nobody gave expires and allows nothing", async () => {
    const answer = await withServer({ changePolicies: shortenWaiting }, async (hasty) => {
      const request = deployment();
      const { approval } = await hasty.agent.authorize(request);
      assert(approval !== undefined);
      assert.equal((await hasty.agent.wait(approval.id, PATIENCE_MS)).status, ApprovalStatus.EXPIRED);
      return hasty.agent.authorize({ ...request, approvalId: approval.id });
    });

    assert.equal(answer.denyReason, DenyReason.APPROVAL_CLOSED);
  });

  test("waiting ends when patience does", async () => {
    const { id } = await opened(deployment());

    assert.equal((await server.agent.wait(id, 200)).status, ApprovalStatus.PENDING);
  });

  test("a caller without patience is refused and may come back", async () => {
    const request = deployment();

    const answer = await refused(request);

    assert.equal(answer.decision, Decision.REQUIRE_APPROVAL);
    await approved(request);
    assert.equal(await server.agent.withPermission(request, 0, async () => "done"), "done");
  });

  test("a watcher sees every change to the end", async () => {
    const request = deployment();
    const approval = await opened(request);
    const seen: ApprovalStatus[] = [];

    for await (const version of server.agent.watch(approval.id)) {
      seen.push(version.status);
      const next = [() => approve(approval, "sam"), () => approve(approval, "yuki"), () => redeem(request)][seen.length - 1];
      await next?.();
    }

    const { PENDING, APPROVED, REDEEMED } = ApprovalStatus;
    // The redemption and its report may come as one change.
    assert.deepEqual(seen.slice(0, 4), [PENDING, PENDING, APPROVED, REDEEMED]);
  });

  test("a watcher who comes back misses what it has seen and nothing else", async () => {
    const approval = await opened(deployment());
    await approve(approval, "sam");

    for await (const version of server.agent.watch(approval.id, approval.version)) {
      assert(version.version > approval.version);
      break;
    }
  });
});

function redeem(request: RequestFields): Promise<void> {
  return server.agent.withPermission(request, PATIENCE_MS, async () => {});
}

function shortenWaiting(policies: string): void {
  const path = join(policies, "approvals.toml");
  const rules = readFileSync(path, "utf8").replace(/^(expires_after *=) ".*"/gm, '$1 "1s"');
  // What happens after it has expired already cannot be configured.
  writeFileSync(path, rules.replace(/^(remind|escalate)_\w+ .*\n/gm, ""));
}

// ---- Errors ----

type Failing = [reason: string, code: Status, call: () => Promise<unknown>];

const ask = (fields: Exclude<RequestFields, AuthorizeRequest>) => server.agent.authorize({ ...deployment(), ...fields });
const report = (id: string) => server.agent.report(id, ApprovalOutcome.SUCCEEDED);

/** Attributes make a name a description, even if there are none. */
const described = (type: string, id: string) => ({ type, id, attributes: {} });

const reload = (asked: Server) =>
  unary(asked.channel, PolicyService.method.reloadPolicies, create(ReloadPoliciesRequestSchema), new Metadata(), inTime());

const listLogs = (asked: Server) =>
  unary(asked.channel, AuditService.method.listLogs, create(ListLogsRequestSchema), as("dana"), inTime());

const getCheckpoint = (log: string) =>
  unary(server.channel, AuditService.method.getCheckpoint, create(GetCheckpointRequestSchema, { log }), as("dana"), inTime());

const proveInclusion = (name: string) => {
  const request = create(GetInclusionProofRequestSchema, { log: "control" });
  return unary(server.channel, AuditService.method.getInclusionProof, request, as(name), inTime());
};

const cancel = (id: string, name: string) =>
  unary(server.channel, ApprovalService.method.cancelApproval, create(CancelApprovalRequestSchema, { id }), as(name), inTime());

const revoke = (id: string, name: string) =>
  unary(server.channel, ApprovalService.method.revokeApproval, create(RevokeApprovalRequestSchema, { id }), as(name), inTime());

async function vote(choices: [name: string, choice: VoteChoice][]): Promise<void> {
  const approval = await opened(deployment());
  for (const [name, choice] of choices) {
    await server.person(name).vote(approval, choice);
  }
}

async function voteOnSomethingElse(): Promise<void> {
  const { id } = await opened(deployment());
  await approve({ ...(await opened(deployment())), id }, "sam");
}

function manyLabels(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [index, ""]));
}

async function authorizeTwiceUnderOneKey(): Promise<void> {
  const requestId = randomUUID();
  await ask({ requestId });
  await ask({ requestId });
}

const { APPROVE, DENY } = VoteChoice;

// What one server answers; the others below take a server with other settings.
const FAILING: Failing[] = [
  ["INVALID_REQUEST", Status.INVALID_ARGUMENT, () => server.agent.authorize({})],
  ["UNKNOWN_ACTION", Status.INVALID_ARGUMENT, () => ask({ action: "Deplay" })],
  ["UNKNOWN_ENTITY_TYPE", Status.INVALID_ARGUMENT, () => ask({ resource: { type: "Servise", id: "search" } })],
  ["ACTION_DOES_NOT_APPLY", Status.INVALID_ARGUMENT, () => ask({ principal: { type: "User", id: "sam" } })],
  ["SCHEMA_MISMATCH", Status.INVALID_ARGUMENT, () => server.agent.authorize(deployment("search", { migration: "no" }))],
  ["ENTITY_REDEFINED", Status.INVALID_ARGUMENT, () => ask({ principal: described("Agent", "deploy-bot") })],
  ["DUPLICATE_ENTITY", Status.INVALID_ARGUMENT, () => ask({ entities: [described("Team", "a"), described("Team", "a")] })],
  ["LIMIT_EXCEEDED", Status.INVALID_ARGUMENT, () => ask({ labels: manyLabels(33) })],
  ["POLICY_VERSION_NOT_REACHED", Status.FAILED_PRECONDITION, () => ask({ minPolicyVersion: "0".repeat(64) })],
  ["APPROVAL_NOT_FOUND", Status.NOT_FOUND, () => report("no-such-approval")],
  ["ALREADY_RESOLVED", Status.FAILED_PRECONDITION, () => vote([["sam", DENY], ["yuki", APPROVE]])],
  ["STILL_PENDING", Status.FAILED_PRECONDITION, async () => revoke((await opened(deployment())).id, "sam")],
  ["ALREADY_VOTED", Status.FAILED_PRECONDITION, () => vote([["sam", APPROVE], ["sam", APPROVE]])],
  ["OWN_REQUEST", Status.PERMISSION_DENIED, () => vote([["sofia", APPROVE]])],
  ["NOT_ELIGIBLE", Status.PERMISSION_DENIED, () => vote([["lee", APPROVE]])],
  ["DIGEST_MISMATCH", Status.FAILED_PRECONDITION, voteOnSomethingElse],
  ["NOT_THE_REQUESTER", Status.PERMISSION_DENIED, async () => cancel((await opened(deployment())).id, "lee")],
  ["REQUEST_ID_REUSED", Status.INVALID_ARGUMENT, authorizeTwiceUnderOneKey],
  ["OUTCOME_NOT_ACCEPTED", Status.FAILED_PRECONDITION, async () => report((await opened(deployment())).id)],
  ["UNAUTHENTICATED", Status.UNAUTHENTICATED, async () => server.agent.vote(await opened(deployment()), APPROVE)],
  ["MAY_NOT_READ", Status.PERMISSION_DENIED, () => proveInclusion("lee")],
  ["NOT_IN_THE_LOG", Status.NOT_FOUND, () => getCheckpoint("no-such-log")],
];
// Each has a test of its own below.
const WITH_OTHER_SETTINGS = [
  "APPROVALS_NOT_AVAILABLE",
  "AUDIT_UNAVAILABLE",
  "NO_POLICIES",
  "POLICY_LOAD_FAILED",
  "TOO_MANY_APPROVALS",
];
// They take a caller that shows a certificate or a token, or a call that goes on after its deadline: the Python tests make these. The
// last two are brought about by no caller, or by very many.
const NOT_TRIED_HERE = [
  "CALLER_NOT_PERMITTED",
  "CREDENTIAL_NOT_CHECKED",
  "DEADLINE_EXCEEDED",
  "PRINCIPAL_NOT_BOUND",
  "RATE_LIMITED",
  "INTERNAL",
  "OVERLOADED",
];

describe("errors", () => {
  test("every reason is tried", () => {
    const tried = [...FAILING.map(([reason]) => reason), ...WITH_OTHER_SETTINGS, ...NOT_TRIED_HERE];

    const reasons = ErrorReasonSchema.values.map((value) => value.localName).filter((name) => name !== "UNSPECIFIED");
    assert.deepEqual(tried.sort(), reasons.sort());
  });

  for (const failing of FAILING) {
    test(`a call fails with ${failing[0]}`, async () => {
      await assertFails(...failing);
    });
  }

  test("a server without policies says when to ask again", async () => {
    const breakPolicies = (folder: string) => writeFileSync(join(folder, "deploy.cedar"), "permit");

    const failed = await withServer({ changePolicies: breakPolicies }, (empty) =>
      assertFails("NO_POLICIES", Status.UNAVAILABLE, () => empty.agent.authorize(deployment())),
    );

    assert.equal(failed.retryAfterMs, 1000);
  });

  test("policies that cannot be loaded are refused", async () => {
    let policies = "";
    await withServer({ changePolicies: (folder) => (policies = folder) }, async (reloading) => {
      writeFileSync(join(policies, "deploy.cedar"), "permit");

      await assertFails("POLICY_LOAD_FAILED", Status.FAILED_PRECONDITION, () => reload(reloading));
      assert.equal(await reloading.agent.may(deployment("payments-api-dev")), true);
    });
  });

  test("a server that keeps no approvals redeems none", async () => {
    const request = { ...deployment(), approvalId: "a" };

    await withServer({ environment: { COUNTERSIGN_APPROVALS__STORE: "none" } }, (forgetful) =>
      assertFails("APPROVALS_NOT_AVAILABLE", Status.UNIMPLEMENTED, () => forgetful.agent.authorize(request)),
    );
  });

  test("a requester who asks for too many approvals is told the limit", async () => {
    const environment = { COUNTERSIGN_APPROVALS__PENDING_PER_REQUESTER: "1" };
    const failed = await withServer({ environment }, async (strict) => {
      await strict.agent.authorize(deployment());
      return assertFails("TOO_MANY_APPROVALS", Status.RESOURCE_EXHAUSTED, () => strict.agent.authorize(deployment()));
    });

    assert.deepEqual({ ...failed.metadata }, { limit: "pending_per_requester", value: "1" });
  });

  test("a server that records nothing has no log to list", async () => {
    await withServer({ environment: { COUNTERSIGN_AUDIT__ENABLED: "false" } }, (silent) =>
      assertFails("AUDIT_UNAVAILABLE", Status.UNIMPLEMENTED, () => listLogs(silent)),
    );
  });

  test("a call ends at its deadline and may be made again", async () => {
    const { id } = await opened(deployment());
    const request = create(WaitApprovalRequestSchema, { id, timeout: durationFromMs(30_000) });
    const deadline = Date.now() + 200;

    const failed = await failure(() =>
      unary(server.channel, ApprovalService.method.waitApproval, request, new Metadata(), { deadline }),
    );

    assert.equal(failed.code, Status.DEADLINE_EXCEEDED);
    assert.notEqual(failed.retryAfterMs, undefined);
  });

  test("a message that is too large is refused by the transport", async () => {
    const failed = await failure(() => ask({ justification: "x".repeat(65_536) }));

    assert.equal(failed.code, Status.OUT_OF_RANGE);
    assert.equal(failed.reason, "");
    assert.equal(failed.retryAfterMs, undefined);
  });
});

async function assertFails(...[reason, code, call]: Failing): Promise<CallFailed> {
  const failed = await failure(call);
  assert.deepEqual([failed.reason, Status[failed.code]], [reason, Status[code]], failed.message);
  assert.equal(failed.fields.size > 0, code === Status.INVALID_ARGUMENT);
  assert.equal(failed.retryAfterMs !== undefined, [Status.UNAVAILABLE, Status.RESOURCE_EXHAUSTED].includes(code));
  return failed;
}

async function failure(call: () => Promise<unknown>): Promise<CallFailed> {
  const error = await call().then(
    () => assert.fail("it did not fail"),
    (error: unknown) => error,
  );
  assert(error instanceof CallFailed, String(error));
  return error;
}

// ---- The example ----

describe("the example", () => {
  test("the deploying agent runs to its end", () => {
    const run = runAgent("--people", "sam,yuki", "--patience", "20");

    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stdout, /approved by User::"sam", User::"yuki"\ndeploying \S+ to payments-api\nonce more: refused\n$/);
  });

  test("without people it does not deploy to production", () => {
    const run = runAgent("--patience", "0.5");

    assert.equal(run.status, 1, run.stderr);
    assert.doesNotMatch(run.stdout, /^deploying .* to payments-api$/m);
  });

  test("what it says to install is what is tested", () => {
    const named = packages("examples/typescript/package.json");
    const tested = packages("tests/interop/package.json");

    assert.deepEqual({ ...tested, ...named }, tested);
  });
});

function runAgent(...options: string[]) {
  const program = fileURLToPath(new URL("../../../examples/typescript/src/deploy-agent.js", import.meta.url));
  return spawnSync(process.execPath, [program, "--server", server.address, ...options], { encoding: "utf8", timeout: 2 * PATIENCE_MS });
}

/** The versions of the packages that a `package.json` names. */
function packages(path: string): Record<string, string> {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(path, "utf8"));
  return { ...dependencies, ...devDependencies };
}
