// Calls gRPC methods as protobuf-es describes them: what a generator of stubs would write, once for all methods.

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, DescMethod, DescMethodServerStreaming, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type { Any } from "@bufbuild/protobuf/wkt";
import { status as Status } from "@grpc/grpc-js";
import type { CallOptions, Client, ClientReadableStream, Metadata, ServiceError } from "@grpc/grpc-js";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../generated/google/rpc/error_details_pb.js";
import { StatusSchema } from "../generated/google/rpc/status_pb.js";

const ERROR_DOMAIN = "countersign.v1";
/** When a call is repeated that failed without saying when. */
const DEFAULT_PAUSE_MS = 1000;

/** A call failed: there is no answer. Where a decision was asked for, the action must not be done. */
export class CallFailed extends Error {
  override readonly name = "CallFailed";
  readonly code: Status;
  /** Such as `SCHEMA_MISMATCH`; empty if it was not Countersign that answered. */
  readonly reason: string;
  /** What programs want to know beside the reason, such as how an approval stands. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What is wrong with which field of the request. */
  readonly fields: ReadonlyMap<string, string>;
  /** After which time the same call may be better off; undefined if it has to be changed first. */
  readonly retryAfterMs: number | undefined;

  constructor(error: ServiceError) {
    const details = detailsOf(error);
    const info = unpacked(details, ErrorInfoSchema);
    const isOurs = info?.domain === ERROR_DOMAIN;
    super(`${isOurs ? info.reason : Status[error.code]}: ${error.details}`, { cause: error });
    this.code = error.code;
    this.reason = isOurs ? info.reason : "";
    this.metadata = info?.metadata ?? {};
    const violations = unpacked(details, BadRequestSchema)?.fieldViolations ?? [];
    this.fields = new Map(violations.map((violation) => [violation.field, violation.description]));
    this.retryAfterMs = retryAfterMs(error.code, details);
  }
}

function retryAfterMs(code: Status, details: Any[]): number | undefined {
  const delay = unpacked(details, RetryInfoSchema)?.retryDelay;
  if (delay !== undefined) {
    return Number(delay.seconds) * 1000 + delay.nanos / 1_000_000;
  }
  return code === Status.UNAVAILABLE || code === Status.DEADLINE_EXCEEDED ? DEFAULT_PAUSE_MS : undefined;
}

function detailsOf(error: ServiceError): Any[] {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  return bytes instanceof Uint8Array ? fromBinary(StatusSchema, bytes).details : [];
}

/** The detail of a type, if there is one. */
function unpacked<Desc extends DescMessage>(details: Any[], schema: Desc): MessageShape<Desc> | undefined {
  return details.map((detail) => anyUnpack(detail, schema)).find((detail) => detail !== undefined);
}

/** Calls a method that has one answer. Rejects with `CallFailed`. */
export function unary<Input extends DescMessage, Output extends DescMessage>(
  channel: Client,
  method: DescMethodUnary<Input, Output>,
  request: MessageShape<Input>,
  metadata: Metadata,
  options: CallOptions,
): Promise<MessageShape<Output>> {
  return new Promise((resolve, reject) => {
    channel.makeUnaryRequest(
      path(method),
      (message: MessageShape<Input>) => Buffer.from(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, bytes),
      request,
      metadata,
      options,
      (error, answer) => {
        if (error !== null) {
          reject(new CallFailed(error));
        } else if (answer !== undefined) {
          resolve(answer);
        }
      },
    );
  });
}

/** Calls a method that has many answers, which the stream yields; it throws a `ServiceError`. */
export function serverStream<Input extends DescMessage, Output extends DescMessage>(
  channel: Client,
  method: DescMethodServerStreaming<Input, Output>,
  request: MessageShape<Input>,
  metadata: Metadata,
  options: CallOptions,
): ClientReadableStream<MessageShape<Output>> {
  return channel.makeServerStreamRequest(
    path(method),
    (message: MessageShape<Input>) => Buffer.from(toBinary(method.input, message)),
    (bytes: Buffer) => fromBinary(method.output, bytes),
    request,
    metadata,
    options,
  );
}

/** How HTTP/2 names a method. */
export function path(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}
