// @azure/web-pubsub-client against the emulator. Its default protocol is json.reliable.webpubsub.azure.v1.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebPubSubJsonProtocol, WebPubSubJsonReliableProtocol } from "@azure/web-pubsub-client";
import { connect, connectRaw, expected, goodbye, Inbox, startEmulator } from "./emulator.js";

let emulator;
before(async () => {
  emulator = await startEmulator();
});
after(async () => {
  const { code, signal } = await emulator.stop();
  assert.deepEqual({ code, signal }, { code: 0, signal: null });
});

const asText = { contentType: "text/plain" };
const everything = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"];
const forbidden = (err) => err.errorDetail?.name === "Forbidden";

for (const protocol of [WebPubSubJsonReliableProtocol(), WebPubSubJsonProtocol()]) {
  test(`${protocol.name}: clients talk in a group`, async (t) => {
    const service = emulator.hub(protocol.isReliableSubProtocol ? "talk_reliable" : "talk");
    const alice = await connect(t, service, { userId: "alice", roles: everything }, { protocol });
    const bob = await connect(t, service, { userId: "bob", roles: everything }, { protocol });
    assert.equal(alice.userId, "alice");
    await alice.client.joinGroup("room");
    await bob.client.joinGroup("room");

    const bytes = Uint8Array.from([0, 127, 128, 255]);
    await alice.client.sendToGroup("room", "hello", "text");
    await alice.client.sendToGroup("room", { a: [1, null] }, "json", { noEcho: true });
    await alice.client.sendToGroup("room", bytes.buffer, "binary", { fireAndForget: true });
    const from = { group: "room", fromUserId: "alice" };
    const [text, json, binary] = [
      { dataType: "text", data: "hello", ...from },
      { dataType: "json", data: { a: [1, null] }, ...from },
      { dataType: "binary", data: Buffer.from(bytes), ...from },
    ];
    assert.deepEqual(await bob.inbox.take(3), [text, json, binary]);
    assert.deepEqual(await alice.inbox.take(2), [text, binary], "a message with noEcho does not return to its sender");

    await bob.client.leaveGroup("room");
    await alice.client.sendToGroup("room", "gone?", "text");
    await service.sendToAll("end", asText);
    assert.deepEqual(await bob.inbox.next(), { dataType: "text", data: "end" });
  });
}

test("roles decide who may join and send where", async (t) => {
  const service = emulator.hub("roles");
  const nobody = await connect(t, service);
  await assert.rejects(nobody.client.joinGroup("red"), forbidden);
  await assert.rejects(nobody.client.leaveGroup("red"), forbidden);
  await assert.rejects(nobody.client.sendToGroup("red", "x", "text"), forbidden);

  const some = await connect(t, service, { roles: ["webpubsub.joinLeaveGroup.red", "webpubsub.sendToGroup.blue"] });
  await some.client.joinGroup("red");
  await assert.rejects(some.client.joinGroup("blue"), forbidden);
  await some.client.sendToGroup("blue", "x", "text");
  await assert.rejects(some.client.sendToGroup("red", "x", "text"), forbidden);
});

test("a repeated ack id is a duplicate and not executed again", async (t) => {
  const service = emulator.hub("duplicates");
  const alice = await connect(t, service, { roles: everything });
  assert.equal((await alice.client.joinGroup("room", { ackId: 71 })).isDuplicated, false);
  assert.equal((await alice.client.joinGroup("room", { ackId: 71 })).isDuplicated, true);
  assert.equal((await alice.client.sendToGroup("room", "once", "text", { ackId: 72 })).isDuplicated, false);
  assert.equal((await alice.client.sendToGroup("room", "twice", "text", { ackId: 72 })).isDuplicated, true);
  await service.sendToAll("end", asText);
  assert.deepEqual((await alice.inbox.take(2)).map((m) => m.data), ["once", "end"]);
});

test("an event without a handler fails", async (t) => {
  const alice = await connect(t, emulator.hub("no_handler"));
  await assert.rejects(alice.client.sendEvent("hello", "x", "text"), (err) => {
    assert.equal(err.errorDetail?.name, "InternalServerError");
    return true;
  });
});

test("pings are answered", async (t) => {
  const protocol = WebPubSubJsonReliableProtocol();
  const frames = new Inbox();
  const parseMessages = protocol.parseMessages.bind(protocol);
  protocol.parseMessages = (frame) => {
    frames.push(JSON.parse(frame));
    return parseMessages(frame);
  };
  await connect(t, emulator.hub("pings"), {}, { protocol, keepAliveIntervalInMs: 50 });
  assert.equal((await frames.next()).event, "connected");
  assert.deepEqual(await frames.take(2), [{ type: "pong" }, { type: "pong" }]);
});

test("a dropped socket is recovered: same connection, same groups, every message once and in order", async (t) => {
  const service = emulator.hub("recovery");
  const protocol = WebPubSubJsonReliableProtocol();
  const frames = new Inbox(); // every frame that arrived
  const parseMessages = protocol.parseMessages.bind(protocol);
  let lossy = false; // while true, the client ignores frames, as if the network had lost them
  protocol.parseMessages = (frame) => {
    frames.push(JSON.parse(frame));
    return lossy ? null : parseMessages(frame);
  };
  const alice = await connect(t, service, { userId: "alice", roles: everything }, { protocol });
  assert.equal((await frames.next()).event, "connected");
  await alice.client.joinGroup("room", { ackId: 5 });
  assert.equal((await frames.next()).type, "ack");
  const reconnected = [];
  alice.client.on("connected", (e) => reconnected.push(e));

  const send = async (from, to) => {
    for (let i = from; i <= to; i++) await service.group("room").sendToAll({ i });
  };
  await send(1, 3);
  assert.deepEqual((await frames.take(3)).map((f) => f.sequenceId), [1, 2, 3]);
  lossy = true;
  await send(4, 6);
  assert.deepEqual((await frames.take(3)).map((f) => f.sequenceId), [4, 5, 6]);

  alice.client._wsClient._socket.terminate(); // no close frame
  lossy = false;
  await send(7, 9);
  assert.equal(await service.connectionExists(alice.connectionId), true, "the service keeps the connection");

  const messages = await alice.inbox.take(9);
  assert.deepEqual(messages.map((m) => m.data.i), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  // The service sends all unacknowledged messages again, without a second "connected" before them.
  let { sequenceId } = await frames.next();
  assert.ok(sequenceId >= 1 && sequenceId <= 4, `the recovered connection begins with message ${sequenceId}`);
  while (sequenceId < 9) assert.equal((await frames.next()).sequenceId, ++sequenceId);
  assert.deepEqual(reconnected, [], "the application is not notified of the recovery");
  assert.equal(alice.client._connectionId, alice.connectionId);

  const isDuplicated = async (ackId) => (await alice.client.joinGroup("room", { ackId })).isDuplicated;
  assert.equal(await isDuplicated(5), true, "the service remembers ack ids across a recovery");
  await alice.client.sendToGroup("room", { i: 10 }, "json");
  assert.equal((await alice.inbox.next()).data.i, 10);
});

test("a connection closed by the service is not recovered", async (t) => {
  const service = emulator.hub("no_recovery");
  const alice = await connect(t, service, { userId: "alice" });
  await service.closeConnection(alice.connectionId, { reason: "enough" });
  assert.equal((await alice.disconnected()).message?.message, `${goodbye} Reason: enough`);
  await alice.stopped();
  assert.equal(await service.userExists("alice"), false);
});

test("autoReconnect opens a new connection and joins its groups again", async (t) => {
  const service = emulator.hub("reconnect");
  const alice = await connect(t, service, { userId: "alice", roles: everything }, { autoReconnect: true });
  await alice.client.joinGroup("room");
  const again = new Promise((resolve) => alice.client.on("connected", resolve));
  await service.closeConnection(alice.connectionId);
  const { connectionId } = await expected(again, "the second connection");
  assert.notEqual(connectionId, alice.connectionId);
  await service.group("room").sendToAll("back", asText);
  assert.deepEqual(await alice.inbox.next(), { group: "room", dataType: "text", data: "back" });
});

// The client's close frame has no code. The service ends a reliable connection immediately only after a close with code 1000.
test("a reliable client that stops is kept for 30 s, and one that closes with 1000 is removed", { timeout: 20_000 }, async (t) => {
  const service = emulator.hub("stopping");
  const alice = await connect(t, service, { userId: "alice", groups: ["room"] });
  const token = alice.client._reconnectionToken;
  alice.client.stop();
  await alice.stopped();

  const { baseUrl } = await service.getClientAccessToken();
  const recovery = new URLSearchParams({ awps_connection_id: alice.connectionId, awps_reconnection_token: token });
  const again = await connectRaw(t, `${baseUrl}?${recovery}`, "json.reliable.webpubsub.azure.v1");
  await service.group("room").sendToAll("back", asText);
  assert.equal(JSON.parse(await again.inbox.next()).data, "back");

  again.socket.close(1000);
  await again.closed();
  while (await service.connectionExists(alice.connectionId)); // the emulator removes it after the close handshake
  assert.equal(await service.groupExists("room"), false);
});

test("a plain client that stops is removed immediately", { timeout: 20_000 }, async (t) => {
  const service = emulator.hub("stopping_plain");
  const alice = await connect(t, service, { groups: ["room"] }, { protocol: WebPubSubJsonProtocol() });
  alice.client.stop();
  await alice.stopped();
  while (await service.connectionExists(alice.connectionId));
  assert.equal(await service.groupExists("room"), false);
});
