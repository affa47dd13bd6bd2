// The official middleware @azure/web-pubsub-express answers the emulator's events.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import { connect, connectRaw, expected, goodbye, Inbox, startEmulator } from "./emulator.js";

// One web server for all hubs. A middleware serves one hub, so the path of the URL begins with the hub's name.
const middlewares = new Map();
const requests = []; // the received requests: method, hub, event and ce-id
const abandoned = new Inbox(); // the events whose requests the emulator aborted before they were answered
const app = createServer((req, res) => {
  const [, hub] = /^\/([^/]*)\//.exec(req.url);
  requests.push({ method: req.method, hub, type: req.headers["ce-type"], id: req.headers["ce-id"] });
  res.once("close", () => res.writableFinished || abandoned.push(req.headers["ce-eventname"]));
  req.baseUrl = ""; // the middleware reads baseUrl and path, which only a request of Express has
  req.path = req.url.split("?")[0];
  middlewares.get(hub)(req, res, () => res.writeHead(404).end("the middleware passed this request on"));
});

let emulator;
let directory;
const hubs = ["accept", "states", "kinds", "reject", "fails", "allowed", "not_allowed", "order", "invoke"];
before(async () => {
  app.listen(0, "127.0.0.1");
  await once(app, "listening");
  const urlTemplate = `http://127.0.0.1:${app.address().port}/{hub}/{event}`;
  const systemEvents = ["connect", "connected", "disconnected"];
  const settings = { eventHandlers: [{ urlTemplate, systemEvents, userEventPattern: "*" }] };
  directory = await mkdtemp(join(tmpdir(), "interop-"));
  const file = join(directory, "hubs.json");
  await writeFile(file, JSON.stringify(Object.fromEntries(hubs.map((hub) => [hub, settings]))));
  emulator = await startEmulator("-hubs", file);
});
after(async () => {
  const { code, signal } = await emulator.stop();
  app.close();
  app.closeAllConnections();
  await rm(directory, { recursive: true });
  assert.deepEqual({ code, signal }, { code: 0, signal: null });
});

/** Register a middleware for a hub's events, and return a service client of the hub. */
function handle(hub, options) {
  middlewares.set(hub, new WebPubSubEventHandler(hub, { path: `/${hub}/`, ...options }).getMiddleware());
  return emulator.hub(hub);
}

test("connect is accepted with a user, groups, roles and a subprotocol", async (t) => {
  const asked = new Inbox();
  const service = handle("accept", {
    handleConnect(req, res) {
      asked.push(req);
      res.success({
        userId: "alice",
        groups: ["room"],
        roles: ["webpubsub.sendToGroup.room"],
        subprotocol: "json.webpubsub.azure.v1",
      });
    },
  });
  const { url } = await service.getClientAccessToken({ userId: "somebody" });
  const { socket, inbox } = await connectRaw(t, `${url}&color=red`, ["other", "json.webpubsub.azure.v1"]);
  assert.equal(socket.protocol, "json.webpubsub.azure.v1");
  assert.equal(JSON.parse(await inbox.next()).userId, "alice");
  assert.equal(await service.userExists("alice"), true);
  assert.equal(await service.groupExists("room"), true);
  socket.send(JSON.stringify({ type: "sendToGroup", group: "room", ackId: 1, dataType: "text", data: "x" }));
  const frames = (await inbox.take(2)).map((f) => JSON.parse(f));
  assert.ok(frames.some((f) => f.type === "ack" && f.success));
  assert.ok(frames.some((f) => f.type === "message" && f.data === "x" && f.fromUserId === "alice"));

  const req = await asked.next();
  assert.equal(req.context.hub, "accept");
  assert.equal(req.context.eventName, "connect");
  assert.equal(req.context.userId, "somebody");
  assert.match(req.context.signature, /^sha256=[0-9a-f]{64}(,sha256=[0-9a-f]{64})?$/);
  assert.equal(req.context.origin, new URL(emulator.endpoint).hostname, "the origin is the host without a port");
  assert.deepEqual(req.subprotocols, ["other", "json.webpubsub.azure.v1"]);
  assert.deepEqual(req.queries.color, ["red"]);
  assert.deepEqual(req.claims.sub, ["somebody"]);
  assert.deepEqual(req.clientCertificates, []);
  const { token } = await service.getClientAccessToken();
  assert.ok(!JSON.stringify(req).includes(token.split(".")[0]), "the application does not receive the token");
});

test("every later event carries the state, which an answer can change", async (t) => {
  const seen = new Inbox();
  const service = handle("states", {
    handleConnect(req, res) {
      seen.push(["connect", structuredClone(req.context.states)]);
      res.setState("name", "Grüße ☃");
      res.setState("n", { list: [1, null] });
      res.success();
    },
    onConnected: (req) => seen.push(["connected", structuredClone(req.context.states)]),
    handleUserEvent(req, res) {
      seen.push([req.context.eventName, structuredClone(req.context.states)]);
      if (req.data === "change") res.setState("n", 2);
      res.success();
    },
    onDisconnected: (req) => seen.push(["disconnected", structuredClone(req.context.states), req.reason]),
  });
  const alice = await connect(t, service);
  await alice.client.sendEvent("one", "change", "text");
  await alice.client.sendEvent("two", "x", "text");
  await service.closeConnection(alice.connectionId, { reason: "enough" });
  const first = { name: "Grüße ☃", n: { list: [1, null] } };
  const second = { ...first, n: 2 };
  const events = await seen.take(5);
  assert.deepEqual(
    events.map(([name, states]) => [name, states]),
    [["connect", {}], ["connected", first], ["one", first], ["two", second], ["disconnected", second]],
  );
  assert.equal(events[4][2], `${goodbye} Reason: enough`);
});

test("user events arrive unchanged, and their answers are messages from the server", async (t) => {
  const seen = new Inbox();
  const service = handle("kinds", {
    handleUserEvent(req, res) {
      seen.push([req.context.eventName, req.dataType, req.dataType === "binary" ? Buffer.from(req.data) : req.data]);
      if (req.context.eventName === "silent") return res.success();
      res.success(req.dataType === "json" ? JSON.stringify(req.data) : req.data, req.dataType);
    },
  });
  const alice = await connect(t, service);
  const bytes = Uint8Array.from([0, 127, 128, 255]);
  await alice.client.sendEvent("echo", "Grüße ☃", "text");
  await alice.client.sendEvent("echo", { a: [1, null] }, "json");
  await alice.client.sendEvent("echo", bytes.buffer, "binary");
  await alice.client.sendEvent("silent", "x", "text");
  const sent = [
    { dataType: "text", data: "Grüße ☃" },
    { dataType: "json", data: { a: [1, null] } },
    { dataType: "binary", data: Buffer.from(bytes) },
  ];
  assert.deepEqual(await seen.take(4), [...sent.map((m) => ["echo", m.dataType, m.data]), ["silent", "text", "x"]]);
  await service.sendToAll("end", { contentType: "text/plain" });
  assert.deepEqual(await alice.inbox.take(4), [...sent, { dataType: "text", data: "end" }]);

  const raw = await connectRaw(t, (await service.getClientAccessToken()).url);
  raw.socket.send("hello");
  assert.deepEqual(await seen.next(), ["message", "text", "hello"]);
  assert.equal(await raw.inbox.next(), "hello");
});

test("only the handler's answer completes an invocation", async (t) => {
  const begun = new Inbox();
  const service = handle("invoke", {
    handleUserEvent(req, res) {
      const { eventName, userId } = req.context;
      begun.push([eventName, userId]);
      if (eventName === "echo") res.success(req.dataType === "json" ? JSON.stringify(req.data) : req.data, req.dataType);
      if (eventName === "nothing") res.success();
      if (eventName === "refuse") res.fail(400, "a secret");
      // Other events are never answered.
    },
  });
  const { client, inbox } = await connect(t, service, { userId: "alice" });
  const bytes = Uint8Array.from([0, 127, 128, 255]);
  for (const [dataType, data] of [
    ["text", "Grüße ☃"],
    ["json", { a: [1, null] }],
    ["binary", bytes.buffer],
  ]) {
    const answer = await client.invokeEvent("echo", data, dataType, { invocationId: dataType });
    assert.deepEqual(answer, { invocationId: dataType, dataType, data: dataType === "binary" ? answer.data : data });
    if (dataType === "binary") assert.deepEqual(Buffer.from(answer.data), Buffer.from(bytes));
    assert.deepEqual(await begun.next(), ["echo", "alice"]);
  }
  const { dataType, data } = await client.invokeEvent("nothing", "x", "text");
  assert.deepEqual([dataType, data], [undefined, undefined]);
  await assert.rejects(client.invokeEvent("refuse", "x", "text", { invocationId: "refused" }), (err) => {
    assert.deepEqual([err.name, err.invocationId, err.errorDetail?.name], ["InvocationError", "refused", "InternalServerError"]);
    assert.ok(!JSON.stringify([err.message, err.errorDetail]).includes("secret"), "the client does not receive the handler's text");
    return true;
  });
  await begun.take(2);

  const abort = new AbortController();
  const slow = client.invokeEvent("slow", "x", "text", { abortSignal: abort.signal });
  assert.deepEqual(await begun.next(), ["slow", "alice"]);
  const after = client.invokeEvent("echo", "after", "text"); // waits, because the events of a connection are handled one at a time
  abort.abort();
  await assert.rejects(slow, /cancelled by abortSignal/);
  assert.equal(await abandoned.next(), "slow", "the emulator aborts the handler's request");
  assert.equal((await expected(after, "the answer to the next invocation")).data, "after");

  await service.sendToAll("end", { contentType: "text/plain" });
  assert.deepEqual(await inbox.next(), { dataType: "text", data: "end" }, "the answers do not arrive as messages");
});

test("an invocation whose connection is closed fails", async (t) => {
  const begun = new Inbox();
  const service = handle("invoke", { handleUserEvent: (req) => begun.push(req.context.eventName) });
  const { client, connectionId } = await connect(t, service);
  const invocation = client.invokeEvent("slow", "x", "text");
  await begun.next();
  const rejected = assert.rejects(expected(invocation, "the end of the invocation"), { name: "InvocationError" });
  await service.closeConnection(connectionId);
  await rejected;
});

test("a rejection reaches the handshake with its status", async (t) => {
  const service = handle("reject", { handleConnect: (req, res) => res.fail(req.queries.status ? 401 : 403, "not you") });
  const { url } = await service.getClientAccessToken();
  await assert.rejects(connectRaw(t, url), /403/);
  await assert.rejects(connectRaw(t, `${url}&status=401`), /401/);
});

test("a failed user event fails its ack, and closes a raw client with 1011", async (t) => {
  const service = handle("fails", { handleUserEvent: (req, res) => res.fail(400, "no") });
  const alice = await connect(t, service);
  await assert.rejects(alice.client.sendEvent("x", "x", "text"), (err) => err.errorDetail?.name === "InternalServerError");
  const raw = await connectRaw(t, (await service.getClientAccessToken()).url);
  raw.socket.send("x");
  assert.equal((await raw.closed()).code, 1011);
});

test("a middleware that allows this endpoint receives events", async (t) => {
  const { hostname } = new URL(emulator.endpoint); // without the port, like the origin in the service's requests
  const service = handle("allowed", { allowedEndpoints: ["https://other.example", `http://${hostname}`] });
  await connect(t, service);
  const ofHub = requests.filter((r) => r.hub === "allowed");
  assert.equal(ofHub[0].method, "OPTIONS", "validated before the first event");
  assert.equal(ofHub[1].type, "azure.webpubsub.sys.connect");
});

test("a middleware that allows only other endpoints receives no events", async (t) => {
  const service = handle("not_allowed", { allowedEndpoints: ["https://other.example"] });
  const { url } = await service.getClientAccessToken();
  await assert.rejects(connectRaw(t, url), /500/);
  assert.deepEqual(requests.filter((r) => r.hub === "not_allowed" && r.method === "POST"), []);
});

test("the events of a connection are numbered and in order", async (t) => {
  const done = new Inbox();
  const service = handle("order", {
    handleUserEvent: (req, res) => res.success(),
    onDisconnected: () => done.push("disconnected"),
  });
  const alice = await connect(t, service);
  await Promise.all([1, 2, 3, 4].map((i) => alice.client.sendEvent(`e${i}`, "x", "text")));
  await service.closeConnection(alice.connectionId);
  await done.next();
  const posted = requests.filter((r) => r.hub === "order" && r.method === "POST");
  assert.deepEqual(posted.map((r) => [r.id, r.type.replace(/^azure\.webpubsub\.(sys|user)\./, "")]), [
    ["0", "connect"],
    ["1", "connected"],
    ["2", "e1"],
    ["3", "e2"],
    ["4", "e3"],
    ["5", "e4"],
    ["6", "disconnected"],
  ]);
});
