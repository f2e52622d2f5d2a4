// A client of Countersign, to copy and to change.
//
// It asks, it acts on ALLOW only, and it waits for people where policies ask for them. The rules it follows are in docs/clients.md. It
// needs the code that `buf generate` makes.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { clone, create } from "@bufbuild/protobuf";
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Client, Metadata, credentials } from "@grpc/grpc-js";
import type { ServiceError } from "@grpc/grpc-js";

import {
  ApprovalOutcome,
  ApprovalService,
  ApprovalStatus,
  ReportOutcomeRequestSchema,
  VoteChoice,
  VoteRequestSchema,
  WaitApprovalRequestSchema,
  WatchApprovalRequestSchema,
} from "../generated/countersign/v1/approval_pb.js";
import type { Approval, VoteResponse } from "../generated/countersign/v1/approval_pb.js";
import {
  AuthorizationService,
  AuthorizeRequestSchema,
  Decision,
  DenyReason,
} from "../generated/countersign/v1/authorization_pb.js";
import type { AuthorizeRequest, AuthorizeResponse } from "../generated/countersign/v1/authorization_pb.js";
import { CallFailed, serverStream, unary } from "./grpc.js";

export { CallFailed } from "./grpc.js";

/** The server answers within a millisecond or so; what takes longer is the way to it, or writing down what was decided. */
const DECISION_TIMEOUT_MS = 2000;
/** Below what proxies give a call in which nothing moves. */
const ONE_WAIT_MS = 30_000;
/** After this time a watch is started anew, so that one is not waited for that the network has cut off without a word. */
const ONE_WATCH_MS = 600_000;
/** How long an answer may be under way after the time that the server was asked to wait. */
const ANSWER_MARGIN_MS = 5000;

// gRPC itself repeats what came back as UNAVAILABLE, within the call's deadline. Every call here may be repeated: it reads, or it
// has a `requestId`.
const SERVICE_CONFIG = {
  methodConfig: [
    {
      name: [{ service: AuthorizationService.typeName }, { service: ApprovalService.typeName }],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.1s",
        maxBackoff: "1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};
const CHANNEL_OPTIONS = { "grpc.service_config": JSON.stringify(SERVICE_CONFIG) };

// ---- Channels ----

/** Connects without TLS: for a server on this machine. */
export function loopbackChannel(address: string): Client {
  return new Client(address, credentials.createInsecure(), CHANNEL_OPTIONS);
}

/** PEM texts: the authority that signed the server's certificate, and what this caller proves itself with, if it does. */
export interface Certificates {
  authority: Buffer;
  own?: { chain: Buffer; key: Buffer };
}

/**
 * Connects with TLS, with both sides proving themselves where `own` is given.
 *
 * `token` is asked for a bearer token before every call, so that it can renew one that ends. gRPC sends it over TLS only.
 */
export function tlsChannel(address: string, certificates: Certificates, token?: () => Promise<string>): Client {
  const { authority, own } = certificates;
  const transport = credentials.createSsl(authority, own?.key ?? null, own?.chain ?? null);
  if (token === undefined) {
    return new Client(address, transport, CHANNEL_OPTIONS);
  }
  const bearer = credentials.createFromMetadataGenerator((_, callback) => {
    // Whatever kept the token away, the call must fail and not go without it.
    token().then((text) => callback(null, bearerMetadata(text)), callback);
  });
  return new Client(address, credentials.combineChannelCredentials(transport, bearer), CHANNEL_OPTIONS);
}

function bearerMetadata(token: string): Metadata {
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return metadata;
}

// ---- The client ----

/** The answer is not ALLOW, whatever else it is. The action must not be done. */
export class Refused extends Error {
  override readonly name = "Refused";

  constructor(readonly answer: AuthorizeResponse) {
    super(answer.denyMessage || `${decisionName(answer)}, decision ${answer.decisionId}`);
  }
}

/** The decision in words. A server that is newer than this file may send numbers that have no name here. */
function decisionName(answer: AuthorizeResponse): string {
  const reason = answer.decision === Decision.DENY ? DenyReason[answer.denyReason] : undefined;
  return reason ?? Decision[answer.decision] ?? `unknown decision ${answer.decision}`;
}

/** A request whose every field may be left out, as `create` of protobuf-es takes it. */
export type RequestFields = MessageInitShape<typeof AuthorizeRequestSchema>;

export interface CallerOptions {
  /** A bearer token for a channel without TLS. */
  loopbackToken?: string;
  /** To which trace the calls belong. */
  traceparent?: string;
}

/** Calls Countersign over a channel, which several of these may share. */
export class Countersign {
  readonly #channel: Client;
  readonly #metadata: Metadata;

  constructor(channel: Client, { loopbackToken, traceparent }: CallerOptions = {}) {
    this.#channel = channel;
    this.#metadata = loopbackToken === undefined ? new Metadata() : bearerMetadata(loopbackToken);
    if (traceparent !== undefined) {
      this.#metadata.set("traceparent", traceparent);
    }
  }

  /** Whether the action may be done now. An error is a no. */
  async may(request: RequestFields): Promise<boolean> {
    try {
      return (await this.authorize(request)).decision === Decision.ALLOW;
    } catch (error) {
      if (error instanceof CallFailed) {
        console.warn("no decision, so not allowed: %s", error.message);
        return false;
      }
      throw error;
    }
  }

  /** Asks for a decision. Anything but `Decision.ALLOW` in the answer, a number without a name among it, is a no. */
  authorize(request: RequestFields, timeoutMs = DECISION_TIMEOUT_MS): Promise<AuthorizeResponse> {
    return this.#call(AuthorizationService.method.authorize, create(AuthorizeRequestSchema, request), timeoutMs);
  }

  /**
   * Does `action` only with ALLOW, and reports how it ended where people had approved it.
   *
   * Waits up to `patienceMs` for these people, and for a server that asks to be called again. Rejects with `Refused` or `CallFailed`,
   * or as `action` does.
   */
  async withPermission<Result>(
    request: RequestFields,
    patienceMs: number,
    action: (answer: AuthorizeResponse) => Promise<Result>,
  ): Promise<Result> {
    const { answer, redeemedId } = await this.#ask(create(AuthorizeRequestSchema, request), performance.now() + patienceMs);
    if (answer.decision !== Decision.ALLOW) {
      throw new Refused(answer);
    }
    let result: Result;
    try {
      result = await action(answer);
    } catch (error) {
      await this.#reportIf(redeemedId, ApprovalOutcome.FAILED, error instanceof Error ? error.name : "");
      throw error;
    }
    await this.#reportIf(redeemedId, ApprovalOutcome.SUCCEEDED, "");
    return result;
  }

  /** Waits until an approval is not pending any more, or the time is up. What it returns is a hint: only redeeming decides. */
  async wait(approvalId: string, patienceMs: number): Promise<Approval> {
    const end = performance.now() + patienceMs;
    for (;;) {
      const approval = await repeat(() => this.#waitOnce(approvalId, end), end);
      if (approval.status !== ApprovalStatus.PENDING || performance.now() >= end) {
        return approval;
      }
    }
  }

  /** Yields an approval as it is and after every change, until nothing can change. Connects again where it was cut off. */
  async *watch(approvalId: string, sinceVersion = 0n): AsyncGenerator<Approval, void, void> {
    for (;;) {
      const request = create(WatchApprovalRequestSchema, { id: approvalId, sinceVersion });
      const deadline = Date.now() + ONE_WATCH_MS;
      const method = ApprovalService.method.watchApproval;
      const versions = serverStream(this.#channel, method, request, this.#metadata, { deadline });
      // Whoever stops watching cancels the call, and does not want to hear of that.
      versions.on("error", () => {});
      try {
        for await (const { approval } of versions as AsyncIterable<{ approval?: Approval }>) {
          if (approval !== undefined) {
            sinceVersion = approval.version;
            yield approval;
          }
        }
        return;
      } catch (error) {
        const failure = new CallFailed(error as ServiceError);
        if (failure.retryAfterMs === undefined) {
          throw failure;
        }
        await sleep(failure.retryAfterMs);
      } finally {
        versions.cancel();
      }
    }
  }

  /** Votes on an approval, as the person was shown it: the digests in `shown` bind the vote to that. */
  vote(shown: Approval, choice: VoteChoice, comment = ""): Promise<VoteResponse> {
    const { id, requestDigest, viewDigest } = shown;
    const request = create(VoteRequestSchema, { id, choice, requestDigest, viewDigest, comment, requestId: randomUUID() });
    return this.#call(ApprovalService.method.vote, request);
  }

  /** Says what became of a request that was allowed by redeeming. */
  async report(approvalId: string, outcome: ApprovalOutcome, detail = ""): Promise<void> {
    const request = create(ReportOutcomeRequestSchema, { id: approvalId, outcome, detail, requestId: randomUUID() });
    await this.#call(ApprovalService.method.reportOutcome, request);
  }

  /** Asks, waits for people if it must, and asks again with their approval; also says which approval allowed it. */
  async #ask(request: AuthorizeRequest, end: number): Promise<{ answer: AuthorizeResponse; redeemedId: string }> {
    const asked = clone(AuthorizeRequestSchema, request);
    // One key for one intended action. With it a call whose answer was lost can be repeated, and redeems only once.
    asked.requestId ||= randomUUID();
    let answer = await repeat(() => this.authorize(asked), end);
    if (answer.decision === Decision.REQUIRE_APPROVAL && answer.approval?.id) {
      asked.approvalId = answer.approval.id;
      await this.wait(asked.approvalId, end - performance.now());
      // The approval is not looked at. Whether it helps is decided by the server, under the policies of now.
      answer = await repeat(() => this.authorize(asked), end);
    }
    return { answer, redeemedId: asked.approvalId };
  }

  async #waitOnce(approvalId: string, end: number): Promise<Approval> {
    // No timeout at all would be the server's own of 30 s.
    const timeoutMs = Math.max(Math.min(end - performance.now(), ONE_WAIT_MS), 1);
    const request = create(WaitApprovalRequestSchema, { id: approvalId, timeout: durationFromMs(Math.ceil(timeoutMs)) });
    const { approval } = await this.#call(ApprovalService.method.waitApproval, request, timeoutMs + ANSWER_MARGIN_MS);
    if (approval === undefined) {
      throw new Error("the server answered without the approval");
    }
    return approval;
  }

  async #reportIf(approvalId: string, outcome: ApprovalOutcome, detail: string): Promise<void> {
    if (approvalId === "") {
      return;
    }
    try {
      await this.report(approvalId, outcome, detail);
    } catch (error) {
      // What was done is done: a lost report must not make it look like a failure.
      console.warn("the outcome of approval %s could not be reported: %s", approvalId, error);
    }
  }

  #call<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>,
    request: MessageShape<Input>,
    timeoutMs = DECISION_TIMEOUT_MS,
  ): Promise<MessageShape<Output>> {
    return unary(this.#channel, method, request, this.#metadata, { deadline: Date.now() + timeoutMs });
  }
}

async function repeat<Answer>(call: () => Promise<Answer>, end: number): Promise<Answer> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const pauseMs = error instanceof CallFailed ? error.retryAfterMs : undefined;
      if (pauseMs === undefined || performance.now() + pauseMs > end) {
        throw error;
      }
      await sleep(pauseMs);
    }
  }
}
