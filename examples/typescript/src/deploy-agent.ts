// An agent that deploys: at once to development, never without provenance, and to production after two people said yes.
//
//     countersign serve --dev                                  # in one terminal
//     npm run deploy-agent -- --people sam,yuki
//
// Without `--people` it says how to approve, and waits. Exit codes: 0 deployed, 1 refused, 2 no answer.

import { randomBytes, randomInt, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { VoteChoice } from "../generated/countersign/v1/approval_pb.js";
import type { Approval } from "../generated/countersign/v1/approval_pb.js";
import { CallFailed, Countersign, Refused, loopbackChannel } from "./countersign-client.js";
import type { RequestFields } from "./countersign-client.js";

const PROVENANCE = { builder: "github-actions", commit: "61d0e42" };

/** What is asked is built from what will be done, by one function, so that the two cannot differ. */
function deployment(service: string, version: string, evidence: object = { provenance: PROVENANCE }) {
  return {
    principal: { type: "Agent", id: "deploy-bot" },
    action: "Deploy",
    resource: { type: "Service", id: service },
    context: { version, migration: false, ...evidence },
    justification: `Release ${version} fixes the double charge of last night.`,
    requestId: randomUUID(),
  } satisfies RequestFields;
}

/** Where the work would be done. */
async function deploy(request: ReturnType<typeof deployment>): Promise<void> {
  console.log(`deploying ${request.context.version} to ${request.resource.id}`);
}

interface Options {
  server: string;
  people: string[];
  patienceMs: number;
}

async function run(agent: Countersign, options: Options): Promise<void> {
  const version = `2.5.${randomInt(1_000_000)}`;

  const development = deployment("payments-api-dev", version);
  await agent.withPermission(development, 0, () => deploy(development));

  const unproven = deployment("payments-api-dev", version, {});
  console.log(`without provenance: ${(await agent.may(unproven)) ? "allowed" : "refused"}`);

  const production = deployment("payments-api", version);
  const { approval } = await agent.authorize(production);
  // The same request with the same `requestId`, so nobody is asked twice.
  const deployed = agent.withPermission(production, options.patienceMs, async (answer) => {
    console.log(`approved by ${answer.approval?.votes.map((vote) => vote.person?.account).join(", ")}`);
    await deploy(production);
  });
  await Promise.all([deployed, approval?.id ? askPeople(options, approval) : undefined]);

  // The grant was for one deployment.
  const again = { ...deployment("payments-api", version), approvalId: approval?.id ?? "" };
  console.log(`once more: ${(await agent.may(again)) ? "allowed" : "refused"}`);
}

/** Plays the people whom `--people` names, a moment later; or says what they would have to do. */
async function askPeople({ server, people }: Options, approval: Approval): Promise<void> {
  console.log(`waiting for approval ${approval.id}`);
  if (people.length === 0) {
    console.log(`  countersign approvals approve ${approval.id} --server ${server} --as NAME`);
    return;
  }
  await sleep(200);
  const channel = loopbackChannel(server);
  for (const name of people) {
    await new Countersign(channel, { loopbackToken: `development:${name}` }).vote(approval, VoteChoice.APPROVE);
  }
  channel.close();
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      // Where `countersign serve --dev` listens.
      server: { type: "string", default: "127.0.0.1:50051" },
      // Who approves in this play, such as sam,yuki.
      people: { type: "string", default: "" },
      // How long to wait for people, in seconds.
      patience: { type: "string", default: "600" },
    },
  });
  return {
    server: values.server,
    people: values.people.split(",").filter((name) => name !== ""),
    patienceMs: Number(values.patience) * 1000,
  };
}

async function main(): Promise<number> {
  const options = readOptions();
  const channel = loopbackChannel(options.server);
  // A trace of its own for each run; a real agent passes on the one that it is part of.
  const traceparent = `00-${randomBytes(16).toString("hex")}-${randomBytes(8).toString("hex")}-01`;
  try {
    await run(new Countersign(channel, { traceparent }), options);
    return 0;
  } catch (error) {
    if (error instanceof Refused) {
      console.log(`refused: ${error.message}`);
      return 1;
    }
    if (error instanceof CallFailed) {
      console.error(`no answer: ${error.message}`);
      return 2;
    }
    throw error;
  } finally {
    channel.close();
  }
}

process.exitCode = await main();
