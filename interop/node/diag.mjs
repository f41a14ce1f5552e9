// Calls nigh.diag.v1.Diag with stock @grpc/grpc-js: `node diag.mjs TARGET`, one line per check.

import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const MIB = 1024 * 1024;
// Milliseconds: long enough for a loaded machine, short enough to notice a hang.
const PATIENCE = 20_000;

// npm keeps the packages under target/interop and this file is copied beside them: the caller says where the proto is.
const proto = process.env.NIGH_PROTO ?? fileURLToPath(new URL("../../crates/nigh-cli/proto", import.meta.url));
const definition = loader.loadSync("nigh/diag/v1/diag.proto", { includeDirs: [proto], defaults: true });
const { Diag } = grpc.loadPackageDefinition(definition).nigh.diag.v1;

const target = process.argv[2];
const client = new Diag(target, grpc.credentials.createInsecure());
const soon = () => ({ deadline: Date.now() + PATIENCE });

function expect(condition, what) {
  if (!condition) throw new Error(what);
}

// A unary or client-stream call as a promise of its reply; `seen.metadata` is filled when asked for.
function call(method, request, { metadata = new grpc.Metadata(), options = soon(), seen = {} } = {}) {
  return new Promise((resolve, reject) => {
    const running = client[method](request, metadata, options, (error, reply) => (error ? reject(error) : resolve(reply)));
    running.on("metadata", (initial) => (seen.metadata = initial));
    seen.call = running;
  });
}

async function statusOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("the call succeeded");
}

async function collect(stream, each = () => {}) {
  const replies = [];
  for await (const reply of stream) {
    replies.push(reply);
    each(reply);
  }
  return replies;
}

async function counters() {
  const { handlersCancelled, handlersByMethod } = await call("Counters", {});
  return { cancelled: Number(handlersCancelled), sleeps: Number(handlersByMethod.Sleep ?? 0) };
}

// Asks the server again until the condition holds; each question is a call, so this is no busy loop.
async function waitUntil(condition, what) {
  const end = Date.now() + PATIENCE;
  while (!condition(await counters())) expect(Date.now() < end, what);
}

const checks = {
  "unary call": async () => {
    const reply = await call("Echo", { text: "grüße", data: Buffer.from([0, 255]) });
    expect(reply.text === "grüße" && reply.data.equals(Buffer.from([0, 255])), JSON.stringify(reply));
  },
  "the server knows this process: uid and pid from the kernel": async () => {
    const who = await call("WhoAmI", {});
    expect(who.uid.id === process.geteuid() && who.pid.id === process.pid, who.summary);
  },
  "server stream": async () => {
    const replies = await collect(client.Download({ count: 100, messageBytes: 1000 }, soon()));
    expect(replies.length === 100 && replies.every((reply, n) => reply.index === n && reply.data.length === 1000), "differs");
  },
  "client stream": async () => {
    const seen = {};
    const reply = new Promise((resolve, reject) => {
      seen.call = client.Upload(soon(), (error, value) => (error ? reject(error) : resolve(value)));
    });
    for (let n = 0; n < 100; n++) seen.call.write({ data: Buffer.alloc(1000) });
    seen.call.end();
    const { messages, bytes } = await reply;
    expect(Number(messages) === 100 && Number(bytes) === 100_000, `${messages} ${bytes}`);
  },
  "both directions in turn: each request waits for the reply before it": async () => {
    const stream = client.EchoStream(soon());
    let next = 0;
    stream.write({ text: String(next) });
    const replies = await collect(stream, () => {
      next += 1;
      if (next < 20) stream.write({ text: String(next) });
      else if (next === 20) stream.end();
    });
    expect(replies.map((reply) => reply.text).join() === [...Array(20).keys()].join(), "differs");
  },
  "a deadline ends the call and the handler": async () => {
    const before = await counters();
    const options = { deadline: Date.now() + 300 };
    const error = await statusOf(call("Sleep", { duration: { seconds: 60 } }, { options }));
    expect(error.code === grpc.status.DEADLINE_EXCEEDED, String(error));
    await waitUntil((now) => now.cancelled > before.cancelled, "the handler went on");
  },
  "a cancelled call ends the handler": async () => {
    const before = await counters();
    const seen = {};
    const status = statusOf(call("Sleep", { duration: { seconds: 60 } }, { seen }));
    await waitUntil((now) => now.sleeps > before.sleeps, "the handler never began");
    seen.call.cancel();
    expect((await status).code === grpc.status.CANCELLED, "another status");
    await waitUntil((now) => now.cancelled > before.cancelled, "the handler went on");
  },
  "a failing call: code, message and trailers": async () => {
    const metadata = new grpc.Metadata();
    metadata.set("x-nigh-echo-a", "b");
    const error = await statusOf(call("Fail", { code: 9, message: "no lück: 100%\n" }, { metadata }));
    expect(error.code === grpc.status.FAILED_PRECONDITION && error.details === "no lück: 100%\n", String(error));
    expect(error.metadata.get("x-nigh-echo-a")[0] === "b", "no trailers");
  },
  "metadata both ways, text and binary": async () => {
    const metadata = new grpc.Metadata();
    metadata.set("x-nigh-echo-word", "hello");
    metadata.set("x-nigh-echo-raw-bin", Buffer.from([0, 255, 10]));
    const seen = {};
    await call("Echo", {}, { metadata, seen });
    expect(seen.metadata.get("x-nigh-echo-word")[0] === "hello", "no text");
    expect(seen.metadata.get("x-nigh-echo-raw-bin")[0].equals(Buffer.from([0, 255, 10])), "no binary");
  },
  "a message of 3 MiB both ways": async () => {
    const data = Buffer.alloc(3 * MIB, "nigh");
    expect((await call("Echo", { data })).data.equals(data), "the bytes differ");
  },
  "a request over the server's limit is refused and the connection lives": async () => {
    const error = await statusOf(call("Echo", { data: Buffer.alloc(9 * MIB) }));
    expect([grpc.status.OUT_OF_RANGE, grpc.status.RESOURCE_EXHAUSTED].includes(error.code), String(error));
    await checks["unary call"]();
  },
  "a reply over the client's limit is refused and the connection lives": async () => {
    const error = await statusOf(call("Echo", { replyBytes: 4 * MIB }));
    expect(error.code === grpc.status.RESOURCE_EXHAUSTED, String(error));
    await checks["unary call"]();
  },
};

await new Promise((resolve, reject) => {
  client.waitForReady(Date.now() + PATIENCE, (error) => (error ? reject(error) : resolve()));
});
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok - node: ${name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`not ok - node: ${name}: ${String(error.message ?? error).replaceAll("\n", " ")}`);
  }
}
client.close();
