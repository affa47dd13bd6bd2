// Group streams that @azure/web-pubsub-client sends. Another of its clients and our wsclient receive them.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebPubSubJsonProtocol, WebPubSubJsonReliableProtocol } from "@azure/web-pubsub-client";
import { connect, connectGo, expected, Inbox, startEmulator } from "./emulator.js";

let emulator;
before(async () => {
  emulator = await startEmulator();
});
after(async () => {
  const { code, signal } = await emulator.stop();
  assert.deepEqual({ code, signal }, { code: 0, signal: null });
});

const roles = ["webpubsub.sendToGroup.room"];

/** Return an inbox with the streams that a client receives: the fragments of each stream, and its error if there is one. */
function readStreams({ client }) {
  const streams = new Inbox();
  client.onGroupStream(async (stream) => {
    const read = { id: stream.streamId, group: stream.groupName, fragments: [] };
    try {
      for await (const { dataType, data, fromUserId, stream: { streamSequenceId } } of stream) {
        const bytes = dataType === "binary" ? Buffer.from(data) : data;
        read.fragments.push([streamSequenceId, dataType, bytes, fromUserId]);
      }
    } catch (err) {
      read.error = err;
    }
    streams.push(read);
  });
  return streams;
}

for (const protocol of [WebPubSubJsonReliableProtocol(), WebPubSubJsonProtocol()]) {
  test(`${protocol.name}: a stream reaches the group's other members, whole and in order`, async (t) => {
    const service = emulator.hub(protocol.isReliableSubProtocol ? "whole_reliable" : "whole");
    const alice = await connect(t, service, { userId: "alice", roles, groups: ["room"] }, { protocol });
    const bob = await connect(t, service, { userId: "bob", groups: ["room"] }, { protocol });
    const own = readStreams(alice);
    const streams = readStreams(bob);
    const go = await connectGo(t, emulator, service, "room");

    const bytes = Buffer.from([0, 127, 128, 255]);
    const writer = await alice.client.openGroupStream("room", { streamId: "s", noEcho: true });
    await writer.write("Grüße ☃", "text");
    await writer.write({ a: [1, null] }, "json");
    await writer.write(new Uint8Array(bytes).buffer, "binary");
    for (let i = 4; i <= 100; i++) await writer.write(i, "json");
    await writer.end();
    const fragments = [
      [1, "text", "Grüße ☃", "alice"],
      [2, "json", { a: [1, null] }, "alice"],
      [3, "binary", bytes, "alice"],
    ];
    for (let i = 4; i <= 100; i++) fragments.push([i, "json", i, "alice"]);
    assert.deepEqual(await streams.next(), { id: "s", group: "room", fragments });

    for (const [number, type, data, fromUserId] of fragments) {
      const message = await go.next();
      assert.equal(message.fromUserId, fromUserId);
      assert.equal(message.dataType, type);
      assert.deepEqual(type === "binary" ? Buffer.from(message.data, "base64") : message.data, data);
      assert.deepEqual(message.stream, { streamId: "s", number });
    }
    assert.deepEqual((await go.next()).stream, { streamId: "s", number: 101, end: true });

    // A stream without noEcho comes back to its sender.
    const again = await alice.client.openGroupStream("room", { streamId: "echoed" });
    await again.write("again", "text");
    await again.end();
    const read = { id: "echoed", group: "room", fragments: [[1, "text", "again", "alice"]] };
    assert.deepEqual(await streams.next(), read);
    assert.deepEqual(await own.next(), read, "the sender receives only this stream");
  });
}

test("the sender's error ends the stream of every member", async (t) => {
  const service = emulator.hub("error");
  const alice = await connect(t, service, { userId: "alice", roles });
  const streams = readStreams(await connect(t, service, { groups: ["room"] }));
  const go = await connectGo(t, emulator, service, "room");
  const writer = await alice.client.openGroupStream("room", { streamId: "s" });
  await writer.write("one", "text");
  await writer.abort({ message: "out of paper", userErrorCode: "42" });
  await assert.rejects(writer.write("two", "text"), /is completed/);
  assert.deepEqual(await streams.next(), {
    id: "s",
    group: "room",
    fragments: [[1, "text", "one", "alice"]],
    error: { name: "UserError", message: "out of paper", userErrorCode: "42" },
  });
  assert.equal((await go.next()).data, "one");
  const { end, error } = (await go.next()).stream;
  assert.equal(end, true);
  assert.match(error, /out of paper/);
});

test("a stream is rejected without the permission, and closed when the permission is revoked", async (t) => {
  const service = emulator.hub("forbidden");
  const alice = await connect(t, service, { userId: "alice", roles });
  const streams = readStreams(await connect(t, service, { groups: ["room"] }));
  await assert.rejects(expected(alice.client.openGroupStream("other"), "the rejection"));

  const writer = await alice.client.openGroupStream("room", { streamId: "s" });
  const failed = new Promise((resolve) => writer.onError(resolve));
  await service.revokePermission(alice.connectionId, "sendToGroup", { targetName: "room" });
  await writer.write("too late", "text").catch(() => {});
  await expected(failed, "the stream's error");
  const { fragments, error } = await streams.next();
  assert.deepEqual([fragments, error.name], [[], "Forbidden"]);
});

test("a stream whose sender is closed, or writes nothing, ends with an error", async (t) => {
  const service = emulator.hub("gone");
  const alice = await connect(t, service, { userId: "alice", roles });
  const streams = readStreams(await connect(t, service, { groups: ["room"] }));
  const idle = await alice.client.openGroupStream("room", { streamId: "idle", idleTimeoutInMs: 1 });
  const { name } = await streams.next().then(({ error }) => error);
  assert.equal(name, "IdleTimeout");
  await assert.rejects(idle.write("too late", "text"));

  const writer = await alice.client.openGroupStream("room", { streamId: "cut" });
  await writer.write("one", "text");
  await service.closeConnection(alice.connectionId);
  const { id, error } = await streams.next();
  assert.deepEqual([id, error.name], ["cut", "Cancelled"]);
});
