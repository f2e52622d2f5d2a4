// Servers to call: the real one, and one that answers as it is told.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Metadata, Server as GrpcServer, ServerCredentials, status as Status } from "@grpc/grpc-js";
import type { Client, MethodDefinition, sendUnaryData, ServerUnaryCall, ServerWritableStream } from "@grpc/grpc-js";

import { ApprovalService, WatchApprovalResponseSchema } from "../../../examples/typescript/generated/countersign/v1/approval_pb.js";
import type {
  WatchApprovalRequest,
  WatchApprovalResponse,
} from "../../../examples/typescript/generated/countersign/v1/approval_pb.js";
import { AuthorizationService, AuthorizeResponseSchema } from "../../../examples/typescript/generated/countersign/v1/authorization_pb.js";
import type {
  AuthorizeRequest,
  AuthorizeResponse,
  Decision,
} from "../../../examples/typescript/generated/countersign/v1/authorization_pb.js";
import { RetryInfoSchema } from "../../../examples/typescript/generated/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../../examples/typescript/generated/google/rpc/status_pb.js";
import { Countersign, loopbackChannel } from "../../../examples/typescript/src/countersign-client.js";
import { path } from "../../../examples/typescript/src/grpc.js";

/** The tests are started at the top of the repository. */
const BINARY = resolve(process.env.COUNTERSIGN ?? "target/debug/countersign");
const START_TIMEOUT_MS = 30_000;

export interface Settings {
  /** Environment variables. */
  environment?: Record<string, string>;
  /** Changes the server's own copy of the sample policies before it starts. */
  changePolicies?: (folder: string) => void;
}

/** A `countersign serve` of its own, on a free port, with a folder of its own. */
export class Server {
  private constructor(
    private readonly process: ChildProcess,
    private readonly folder: string,
    readonly address: string,
    readonly channel: Client,
  ) {}

  static async start({ environment = {}, changePolicies = () => {} }: Settings = {}): Promise<Server> {
    const folder = mkdtempSync(join(tmpdir(), "countersign-"));
    const policies = join(folder, "policies");
    cpSync("policies", policies, { recursive: true, dereference: true });
    changePolicies(policies);
    const log = join(folder, "log");
    const process_ = spawn(BINARY, ["serve", "--dev", "--listen", "127.0.0.1:0", "--policies", policies], {
      stdio: ["ignore", "pipe", openSync(log, "w")],
      env: {
        ...process.env,
        COUNTERSIGN_APPROVALS__PATH: join(folder, "approvals.sqlite"),
        // These tests ask more often than any one agent should.
        COUNTERSIGN_APPROVALS__OPENED_PER_MINUTE: "1000",
        COUNTERSIGN_APPROVALS__PENDING_PER_REQUESTER: "1000",
        COUNTERSIGN_AUDIT__PATH: join(folder, "audit"),
        COUNTERSIGN_AUDIT__READERS: '["dana"]',
        COUNTERSIGN_AUDIT__HEADS: join(folder, "heads.txt"),
        ...environment,
      },
    });
    try {
      const address = await firstAddress(process_);
      return new Server(process_, folder, address, loopbackChannel(address));
    } catch (error) {
      process_.kill("SIGKILL");
      throw new Error(`it did not start; its log:\n${readFileSync(log, "utf8")}`, { cause: error });
    }
  }

  get agent(): Countersign {
    return new Countersign(this.channel);
  }

  person(name: string): Countersign {
    return new Countersign(this.channel, { loopbackToken: `development:${name}` });
  }

  async stop(): Promise<void> {
    this.channel.close();
    const ended = once(this.process, "exit");
    this.process.kill("SIGKILL");
    await ended;
    rmSync(this.folder, { recursive: true });
  }
}

/** Runs `work` with a server that stops afterwards. */
export async function withServer<Result>(settings: Settings, work: (server: Server) => Promise<Result>): Promise<Result> {
  const server = await Server.start(settings);
  try {
    return await work(server);
  } finally {
    await server.stop();
  }
}

async function firstAddress(process_: ChildProcess): Promise<string> {
  const lines = createInterface({ input: process_.stdout! });
  const [line] = await once(lines, "line", { signal: AbortSignal.timeout(START_TIMEOUT_MS) });
  return (JSON.parse(line) as { listening: [string] }).listening[0];
}

/** What a scripted server sends: a decision, or an error. */
export type Scripted = { decision: Decision } | { code: Status };

/** A server that gives these answers, one to each `Authorize`, and keeps the metadata it got. It cuts watchers off twice. */
export class ScriptedServer {
  readonly metadata: Metadata[] = [];
  /** What each watcher said it had seen. */
  readonly seen: bigint[] = [];
  private readonly server = new GrpcServer();
  private readonly answers: Iterator<Scripted>;

  private constructor(answers: Scripted[]) {
    this.answers = answers.values();
    const { authorize } = AuthorizationService.method;
    const { watchApproval } = ApprovalService.method;
    this.server.addService({ authorize: definition(authorize) }, { authorize: this.answer.bind(this) });
    this.server.addService({ watchApproval: definition(watchApproval) }, { watchApproval: this.cutOff.bind(this) });
  }

  /** Runs `work` with the server's address. */
  static async with(
    answers: Scripted[],
    work: (address: string) => Promise<void>,
    credentials = ServerCredentials.createInsecure(),
  ): Promise<ScriptedServer> {
    const script = new ScriptedServer(answers);
    const port = await new Promise<number>((resolve, reject) => {
      script.server.bindAsync("localhost:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
    });
    try {
      await work(`localhost:${port}`);
    } finally {
      script.server.forceShutdown();
    }
    return script;
  }

  private answer(call: ServerUnaryCall<AuthorizeRequest, AuthorizeResponse>, send: sendUnaryData<AuthorizeResponse>): void {
    this.metadata.push(call.metadata);
    const { value, done } = this.answers.next();
    if (done) {
      send({ code: Status.INTERNAL, details: "the script has ended" });
    } else if ("decision" in value) {
      send(null, create(AuthorizeResponseSchema, value));
    } else {
      send(notNow(value.code));
    }
  }

  /** Streams one version after what the watcher has seen. */
  private cutOff(call: ServerWritableStream<WatchApprovalRequest, WatchApprovalResponse>): void {
    this.seen.push(call.request.sinceVersion);
    call.write(create(WatchApprovalResponseSchema, { approval: { version: call.request.sinceVersion + 1n } }));
    if (this.seen.length < 3) {
      call.emit("error", notNow(Status.UNAVAILABLE));
    } else {
      call.end();
    }
  }
}

/** A method, as a server of grpc-js wants it described. */
function definition<Input extends DescMessage, Output extends DescMessage>(
  method: DescMethodUnary<Input, Output> | DescMethodServerStreaming<Input, Output>,
): MethodDefinition<MessageShape<Input>, MessageShape<Output>> {
  return {
    path: path(method),
    requestStream: false,
    responseStream: method.methodKind === "server_streaming",
    requestSerialize: (request) => Buffer.from(toBinary(method.input, request)),
    requestDeserialize: (bytes) => fromBinary(method.input, bytes),
    responseSerialize: (answer) => Buffer.from(toBinary(method.output, answer)),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes),
  };
}

/** An error; for UNAVAILABLE with the time after which to try again. */
function notNow(code: Status) {
  const retry = anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(50) }));
  const status = create(StatusSchema, { code, message: "not now", details: code === Status.UNAVAILABLE ? [retry] : [] });
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, status)));
  return { code, details: status.message, metadata };
}
