// The tunnel client of @azure/web-pubsub-socket.io receives the emulator's events and answers them. The package does not export
// the client, so the tests import it by its path. The package's version is pinned.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import proxies from "@azure/web-pubsub-socket.io/dist/serverProxies/index.js";
import { connect, connectRaw, expected, goodbye, Inbox, startEmulator } from "./emulator.js";

let emulator;
let directory;
const hubs = ["life", "reject", "share", "late", "rest"];
before(async () => {
  const settings = {
    eventHandlers: [
      {
        urlTemplate: "tunnel:///{hub}/{event}",
        systemEvents: ["connect", "connected", "disconnected"],
        userEventPattern: "*",
      },
    ],
  };
  directory = await mkdtemp(join(tmpdir(), "interop-"));
  const file = join(directory, "hubs.json");
  await writeFile(file, JSON.stringify(Object.fromEntries(hubs.map((hub) => [hub, settings]))));
  emulator = await startEmulator("-hubs", file);
});
after(async () => {
  const { code, signal } = await emulator.stop();
  await rm(directory, { recursive: true });
  assert.deepEqual({ code, signal }, { code: 0, signal: null });
});

/** Return a tunnel client that answers a hub's events with the official middleware. */
function newProxy(t, hub, options) {
  const middleware = new WebPubSubEventHandler(hub, { path: `/${hub}/`, ...options }).getMiddleware();
  const proxy = proxies.InprocessServerProxy.fromConnectionString(emulator.connectionString, hub, middleware);
  t.after(() => proxy.stop());
  return proxy;
}

/** Answer a hub's events through the tunnel, and return a service client of that hub. */
async function handle(t, hub, options) {
  await expected(newProxy(t, hub, options).runAsync(), "the tunnel");
  return emulator.hub(hub);
}

test("a client's life reaches the middleware through the tunnel", async (t) => {
  const seen = new Inbox();
  const service = await handle(t, "life", {
    handleConnect(req, res) {
      seen.push(["connect", req.context.userId, req.queries.color, req.context.signature]);
      res.setState("name", "Grüße ☃");
      res.success({ userId: "alice", groups: ["room"], subprotocol: "json.webpubsub.azure.v1" });
    },
    onConnected: (req) => seen.push(["connected", req.context.userId, structuredClone(req.context.states)]),
    handleUserEvent(req, res) {
      const data = req.dataType === "binary" ? Buffer.from(req.data) : req.data;
      seen.push([req.context.eventName, req.dataType, data]);
      if (req.data === "change") res.setState("n", 2);
      res.success(req.dataType === "json" ? JSON.stringify(req.data) : req.data, req.dataType);
    },
    onDisconnected: (req) => seen.push(["disconnected", structuredClone(req.context.states), req.reason]),
  });
  const { url } = await service.getClientAccessToken({ userId: "somebody" });
  const { socket, inbox } = await connectRaw(t, `${url}&color=red`, ["json.webpubsub.azure.v1"]);
  const { userId, connectionId } = JSON.parse(await inbox.next());
  assert.equal(userId, "alice");
  assert.equal(await service.groupExists("room"), true);
  const [, user, color, signature] = await seen.next();
  assert.deepEqual([user, color], ["somebody", ["red"]]);
  assert.match(signature, /^sha256=[0-9a-f]{64}$/, "the middleware keeps the first of several signature lines");
  assert.deepEqual(await seen.next(), ["connected", "alice", { name: "Grüße ☃" }]);

  const bytes = Buffer.from([0, 127, 128, 255]);
  const sent = [
    { event: "change", dataType: "text", data: "change" },
    { event: "echo", dataType: "json", data: { a: [1, null] } },
    { event: "echo", dataType: "binary", data: bytes.toString("base64") },
  ];
  for (const [i, event] of sent.entries()) {
    socket.send(JSON.stringify({ type: "event", ackId: i + 1, ...event }));
    const [message, ack] = (await inbox.take(2)).map((f) => JSON.parse(f));
    assert.deepEqual([message.from, message.dataType, message.data], ["server", event.dataType, event.data]);
    assert.deepEqual([ack.type, ack.ackId, ack.success], ["ack", i + 1, true]);
  }
  assert.deepEqual(await seen.take(3), [
    ["change", "text", "change"],
    ["echo", "json", { a: [1, null] }],
    ["echo", "binary", bytes],
  ]);
  await service.closeConnection(connectionId, { reason: "enough" });
  assert.deepEqual(await seen.next(), ["disconnected", { name: "Grüße ☃", n: 2 }, `${goodbye} Reason: enough`]);
});

test("a rejection reaches the handshake through the tunnel", async (t) => {
  const service = await handle(t, "reject", { handleConnect: (req, res) => res.fail(403, "not you") });
  const { url } = await service.getClientAccessToken();
  await assert.rejects(connectRaw(t, url), /403/);
});

test("two tunnel clients share the events, and one continues when the other stops", async (t) => {
  const counts = [0, 0];
  const clients = [0, 1].map((i) =>
    newProxy(t, "share", {
      handleUserEvent(req, res) {
        counts[i]++;
        res.success();
      },
    }),
  );
  await expected(Promise.all(clients.map((c) => c.runAsync())), "the tunnels");
  const alice = await connect(t, emulator.hub("share"));
  for (let i = 0; i < 10; i++) await alice.client.sendEvent("e", "x", "text");
  assert.equal(counts[0] + counts[1], 10);
  assert.ok(Math.min(...counts) >= 4, `the clients handled ${counts} events`);
  const before = [...counts];
  clients[0].stop();
  for (let i = 0; i < 10; i++) await alice.client.sendEvent("e", "x", "text");
  // The client that stops may have received an event whose answer is lost with its connection. The emulator sends it again.
  const handled = counts[0] + counts[1];
  assert.ok(handled === 20 || (handled === 21 && counts[0] === before[0] + 1), `the clients handled ${counts} events`);
  assert.ok(counts[1] - before[1] >= 9, `after one client stopped, the clients handled ${counts} events`);
});

test("an event waits for the tunnel", async (t) => {
  const service = emulator.hub("late");
  const connecting = connect(t, service, { userId: "ann" });
  await handle(t, "late", { handleConnect: (req, res) => res.success({ userId: "ben" }) });
  assert.equal((await connecting).userId, "ben");
});

test("a REST call through the tunnel fails with 501", async (t) => {
  const proxy = newProxy(t, "rest", {});
  await expected(proxy.runAsync(), "the tunnel");
  await assert.rejects(proxy.sendToAll("x"), /501/);
});
