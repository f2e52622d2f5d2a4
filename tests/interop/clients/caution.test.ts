// What only the client does, against a server that answers as it is told.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";

import { ServerCredentials, status as Status } from "@grpc/grpc-js";
import type { Client } from "@grpc/grpc-js";

import { Decision } from "../../../examples/typescript/generated/countersign/v1/authorization_pb.js";
import { Countersign, Refused, loopbackChannel, tlsChannel } from "../../../examples/typescript/src/countersign-client.js";
import type { Certificates } from "../../../examples/typescript/src/countersign-client.js";
import { ScriptedServer } from "./server.js";

const ALLOW = { decision: Decision.ALLOW };
const UNAVAILABLE = { code: Status.UNAVAILABLE };
const PATIENCE_MS = 20_000;

async function withClient<Result>(channel: Client, work: (client: Countersign) => Promise<Result>): Promise<Result> {
  try {
    return await work(new Countersign(channel));
  } finally {
    channel.close();
  }
}

describe("caution", () => {
  for (const decision of [Decision.UNSPECIFIED, Decision.DENY, Decision.REQUIRE_APPROVAL, 99 as Decision]) {
    test(`a decision of ${decision} is a no`, async () => {
      await ScriptedServer.with([{ decision }, { decision }], (address) =>
        withClient(loopbackChannel(address), async (client) => {
          const permitted = client.withPermission({}, 0, async () => assert.fail("it was done"));
          await assert.rejects(permitted, Refused);
          assert.equal(await client.may({}), false);
        }),
      );
    });
  }

  test("an unavailable server is asked again", async () => {
    const script = await ScriptedServer.with([UNAVAILABLE, UNAVAILABLE, ALLOW], (address) =>
      withClient(loopbackChannel(address), async (client) => assert.equal(await client.may({}), true)),
    );

    assert.equal(script.metadata.length, 3);
  });

  test("one who has patience asks for longer than the channel does", async () => {
    const script = await ScriptedServer.with([...Array(5).fill(UNAVAILABLE), ALLOW], (address) =>
      withClient(loopbackChannel(address), (client) => client.withPermission({}, PATIENCE_MS, async () => {})),
    );

    assert.equal(script.metadata.length, 6);
  });

  test("other errors are not tried again", async () => {
    const script = await ScriptedServer.with([{ code: Status.INVALID_ARGUMENT }, ALLOW], (address) =>
      withClient(loopbackChannel(address), async (client) => assert.equal(await client.may({}), false)),
    );

    assert.equal(script.metadata.length, 1);
  });

  test("a watcher who is cut off goes on where it was", async () => {
    const versions: bigint[] = [];
    const script = await ScriptedServer.with([], (address) =>
      withClient(loopbackChannel(address), async (client) => {
        for await (const { version } of client.watch("a")) {
          versions.push(version);
        }
      }),
    );

    assert.deepEqual(versions, [1n, 2n, 3n]);
    assert.deepEqual(script.seen, [0n, 1n, 2n]);
  });
});

// ---- TLS ----

interface Issued {
  authority: string;
  issued: Record<"localhost" | "deploy-bot", { key: string; chain: string }>;
}

/** An authority that nobody else has, with a certificate for the server and one for the caller. */
function issue(): { server: ServerCredentials; caller: Required<Certificates> } {
  const program = ["tests/interop/certificates.py", "localhost", "deploy-bot"];
  const run = spawnSync(process.env.PYTHON ?? "python3", program, { encoding: "utf8" });
  assert.equal(run.status, 0, run.stderr);
  const { authority, issued } = JSON.parse(run.stdout) as Issued;
  const { key, chain } = issued.localhost;
  const pair = { private_key: Buffer.from(key), cert_chain: Buffer.from(chain) };
  const own = { key: Buffer.from(issued["deploy-bot"].key), chain: Buffer.from(issued["deploy-bot"].chain) };
  return {
    server: ServerCredentials.createSsl(Buffer.from(authority), [pair], true),
    caller: { authority: Buffer.from(authority), own },
  };
}

describe("TLS", () => {
  const { server, caller } = issue();

  test("both sides prove themselves and the token is read before every call", async () => {
    const tokens = ["first", "second"];
    const script = await ScriptedServer.with(
      [ALLOW, ALLOW],
      (address) =>
        withClient(
          tlsChannel(address, caller, async () => tokens.shift() ?? "none left"),
          async (client) => {
            assert.equal(await client.may({}), true);
            assert.equal(await client.may({}), true);
          },
        ),
      server,
    );

    assert.deepEqual(
      script.metadata.map((metadata) => metadata.get("authorization")),
      [["Bearer first"], ["Bearer second"]],
    );
  });

  test("a caller without a certificate gets no answer", () => assertNoAnswer({ authority: caller.authority }));

  test("a server that somebody else vouches for gets no question", () =>
    assertNoAnswer({ ...caller, authority: issue().caller.authority }));

  test("without a token the call is not made", () =>
    assertNoAnswer(caller, () => Promise.reject(new Error("there is no token"))));

  async function assertNoAnswer(certificates: Certificates, token?: () => Promise<string>): Promise<void> {
    const script = await ScriptedServer.with(
      [ALLOW],
      (address) =>
        withClient(tlsChannel(address, certificates, token), async (client) => assert.equal(await client.may({}), false)),
      server,
    );

    assert.equal(script.metadata.length, 0);
  }
});
