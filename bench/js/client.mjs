// The process of the JavaScript client, a contender of -wsclient. Like wsclient_contenders.go, it reads jobs and writes results
// as lines of JSON.
import { createInterface } from "node:readline";
import { WebPubSubClient } from "@azure/web-pubsub-client";

let client;
let arrived = () => {};

async function connect(url) {
  if (client) return;
  client = new WebPubSubClient({ getClientAccessUrl: async () => url });
  client.on("group-message", () => arrived());
  await client.start();
}

async function receive(n) {
  const all = new Promise((resolve) => {
    arrived = () => --n || resolve();
  });
  await client.sendEvent("flood", String(n), "text", { fireAndForget: true });
  await all;
}

async function send(n) {
  for (let i = 0; i < n; i++) await client.sendToGroup("room", "a".repeat(100), "text");
}

async function measure(job) {
  await connect(job.URL);
  const start = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  if (job.Receive) await receive(job.Receive);
  if (job.Send) await send(job.Send);
  const used = process.cpuUsage(cpu);
  return { Took: Number(process.hrtime.bigint() - start), CPU: (used.user + used.system) * 1000 };
}

for await (const line of createInterface({ input: process.stdin })) {
  const result = await measure(JSON.parse(line)).catch((error) => ({ Error: String(error) }));
  console.log(JSON.stringify(result));
}
process.exit(); // the client would keep the process alive
