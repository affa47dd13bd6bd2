// The process of the JavaScript SDK, a contender. Like worker.go, it reads jobs and writes results as lines of JSON.
import { createInterface } from "node:readline";
import { WebPubSubServiceClient } from "@azure/web-pubsub";

const accessKey = "ABCDEFabcdefghijklmnopq0123456789+/AbCdEfG=";
const groups = new Map();

function connect(url) {
  if (!groups.has(url)) {
    const client = new WebPubSubServiceClient(`Endpoint=${url};AccessKey=${accessKey};Version=1.0;`, "chat", {
      allowInsecureConnection: url.startsWith("http:"),
    });
    groups.set(url, client.group("room"));
  }
  return groups.get(url);
}

async function loop(concurrency, requests, send) {
  let started = 0;
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (started++ < requests) await send();
    }),
  );
}

async function bursts(size, requests, send) {
  for (let i = 0; i < Math.floor(requests / size); i++) {
    await Promise.all(Array.from({ length: size }, send));
  }
}

async function measure(job) {
  const group = connect(job.URL);
  const frame = JSON.stringify({ text: "" });
  const message = { text: "a".repeat(job.Size - frame.length) };
  const send = () => group.sendToAll(message);
  if (!job.Burst) await loop(job.Concurrency, 2 * job.Concurrency, send);
  const start = process.cpuUsage();
  await (job.Burst ? bursts : loop)(job.Concurrency, job.Requests, send);
  const used = process.cpuUsage(start);
  return { CPU: (used.user + used.system) * 1000 };
}

for await (const line of createInterface({ input: process.stdin })) {
  const result = await measure(JSON.parse(line)).catch((error) => ({ Error: String(error) }));
  console.log(JSON.stringify(result));
}
