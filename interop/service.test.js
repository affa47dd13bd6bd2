// Every operation of @azure/web-pubsub's service client against the emulator.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { odata } from "@azure/web-pubsub";
import { connect, connectRaw, goodbye, startEmulator } from "./emulator.js";

let emulator;
before(async () => {
  emulator = await startEmulator();
});
after(async () => {
  const { code, signal, lines } = await emulator.stop();
  assert.deepEqual({ code, signal }, { code: 0, signal: null });
  assert.equal(lines.length, 1, "the connection string is the only line on standard output");
});

// A message of each data type.
const text = { dataType: "text", data: "Grüße ☃ 😀" };
const json = { dataType: "json", data: { from: "user1", list: [1, null, "x"], n: 1.5 } };
const binary = { dataType: "binary", data: Buffer.from([0, 1, 2, 253, 254, 255]) };
const asText = { contentType: "text/plain" };
const end = { dataType: "text", data: "end" };

test("the service is healthy", async () => {
  const response = await fetch(`${emulator.endpoint}/api/health`, { method: "HEAD" });
  assert.equal(response.status, 200);
});

for (const { to, send } of [
  { to: "all", send: (s) => (m, o) => s.sendToAll(m, o) },
  { to: "a user", send: (s) => (m, o) => s.sendToUser("alice ü", m, o) },
  { to: "a connection", send: (s, id) => (m, o) => s.sendToConnection(id, m, o) },
  { to: "a group", send: (s) => (m, o) => s.group("a group ü").sendToAll(m, o), group: "a group ü" },
]) {
  test(`text, JSON and binary to ${to}`, async (t) => {
    const service = emulator.hub(`send_to_${to.replace(" ", "_")}`);
    const alice = await connect(t, service, { userId: "alice ü", groups: ["a group ü"] });
    const sendIt = send(service, alice.connectionId);
    await sendIt(text.data, asText);
    await sendIt(json.data);
    await sendIt("a string", {});
    await sendIt(0, {});
    await sendIt(binary.data);
    await sendIt(text.data, { ...asText, messageTtlSeconds: 300 });
    const messages = await alice.inbox.take(6);
    for (const m of messages) delete m.group;
    assert.deepEqual(messages, [
      text,
      json,
      { dataType: "json", data: "a string" },
      { dataType: "json", data: 0 },
      binary,
      text,
    ]);
  });
}

test("a send reaches exactly its recipients", async (t) => {
  const service = emulator.hub("send_targets");
  const alice1 = await connect(t, service, { userId: "alice", groups: ["red"] });
  const alice2 = await connect(t, service, { userId: "alice" });
  const bob = await connect(t, service, { userId: "bob", groups: ["red", "blue"] });
  const anonymous = await connect(t, service);
  const stranger = await connect(t, emulator.hub("send_targets_other"), { userId: "alice", groups: ["red"] });
  const names = new Map([
    [alice1, "alice1"],
    [alice2, "alice2"],
    [bob, "bob"],
    [anonymous, "anonymous"],
  ]);
  const excludedConnections = [alice1.connectionId, anonymous.connectionId];

  for (const [what, reached, send] of [
    ["all", "alice1 alice2 bob anonymous", (m) => service.sendToAll(m, asText)],
    ["all but two", "alice2 bob", (m) => service.sendToAll(m, { ...asText, excludedConnections })],
    ["a filter", "bob", (m) => service.sendToAll(m, { ...asText, filter: "'red' in groups and userId ne 'alice'" })],
    ["anonymous", "anonymous", (m) => service.sendToAll(m, { ...asText, filter: "userId eq null" })],
    ["odata``", "bob", (m) => service.sendToAll(m, { ...asText, filter: odata`userId in (${"bob"}, ${"it's"})` })],
    ["a user", "alice1 alice2", (m) => service.sendToUser("alice", m, asText)],
    ["a user, filtered", "alice2", (m) => service.sendToUser("alice", m, { ...asText, filter: "length(groups) eq 0" })],
    ["a group", "alice1 bob", (m) => service.group("red").sendToAll(m, asText)],
    ["a group but one", "bob", (m) => service.group("red").sendToAll(m, { ...asText, excludedConnections })],
    ["a group, filtered", "alice1", (m) => service.group("red").sendToAll(m, { ...asText, filter: "startswith(userId,'a')" })],
    ["a connection", "bob", (m) => service.sendToConnection(bob.connectionId, m, asText)],
    ["nobody: a connection", "", (m) => service.sendToConnection("nobody", m, asText)],
    ["nobody: a user", "", (m) => service.sendToUser("nobody", m, asText)],
    ["nobody: a group", "", (m) => service.group("nobody").sendToAll(m, asText)],
  ]) {
    await send(what);
    await service.sendToAll(end.data, asText);
    const got = [];
    for (const [connection, name] of names) {
      for (let m = await connection.inbox.next(); m.data !== end.data; m = await connection.inbox.next()) {
        assert.equal(m.data, what);
        got.push(name);
      }
    }
    assert.equal(got.join(" "), reached, what);
  }
  await emulator.hub("send_targets_other").sendToAll(end.data, asText);
  assert.deepEqual(await stranger.inbox.next(), end, "another hub received nothing");
});

test("existence of connections, users and groups", async (t) => {
  const service = emulator.hub("existence");
  const alice = await connect(t, service, { userId: "alice" });
  assert.equal(await service.connectionExists(alice.connectionId), true);
  assert.equal(await service.connectionExists("nobody"), false);
  assert.equal(await service.userExists("alice"), true);
  assert.equal(await service.userExists("Alice"), false);
  assert.equal(await service.groupExists("red"), false);
  await service.group("red").addConnection(alice.connectionId);
  assert.equal(await service.groupExists("red"), true);
  await service.group("red").removeConnection(alice.connectionId);
  assert.equal(await service.groupExists("red"), false);
});

test("group membership, by connection and by user", async (t) => {
  const service = emulator.hub("membership");
  const alice1 = await connect(t, service, { userId: "alice" });
  const alice2 = await connect(t, service, { userId: "alice" });
  const members = async (group) => {
    const ids = [];
    for await (const { connectionId } of await service.group(group).listConnections()) ids.push(connectionId);
    return ids.sort(); // the order of the service's list is unspecified
  };
  const both = [alice1.connectionId, alice2.connectionId].sort();

  await service.group("red").addUser("alice");
  assert.deepEqual(await members("red"), both);
  await service.group("red").removeConnection(alice1.connectionId);
  assert.deepEqual(await members("red"), [alice2.connectionId]);
  await service.group("red").removeUser("alice");
  assert.deepEqual(await members("red"), []);

  await service.group("red").addConnection(alice1.connectionId);
  await service.group("blue").addConnection(alice1.connectionId);
  await service.removeConnectionFromAllGroups(alice1.connectionId);
  assert.deepEqual([await members("red"), await members("blue")], [[], []]);

  await service.group("red").addUser("alice");
  await service.group("blue").addUser("alice");
  await service.removeUserFromAllGroups("alice");
  assert.deepEqual([await members("red"), await members("blue")], [[], []]);

  await assert.rejects(service.group("red").addConnection("nobody"), { statusCode: 404 });
  await assert.rejects(service.group("red").addUser("nobody"), { statusCode: 404 });
  await service.group("red").removeConnection("nobody");
  await service.group("red").removeUser("nobody");
  await service.removeConnectionFromAllGroups("nobody");
  await service.removeUserFromAllGroups("nobody");
});

test("bulk group changes by filter", async (t) => {
  const service = emulator.hub("bulk");
  const alice = await connect(t, service, { userId: "alice" });
  const bob = await connect(t, service, { userId: "bob" });
  await service.addConnectionsToGroups(["red", "blue"], "userId eq 'alice'");
  await service.addConnectionsToGroups(["green"], "true");
  await service.removeConnectionsFromGroups(["red", "green"], odata`connectionId eq ${alice.connectionId}`);
  for (const group of ["red", "green", "blue"]) {
    await service.group(group).sendToAll(group, asText);
  }
  await service.sendToAll(end.data, asText);
  assert.deepEqual(await alice.inbox.take(2), [{ ...end, data: "blue", group: "blue" }, end]);
  assert.deepEqual(await bob.inbox.take(2), [{ ...end, data: "green", group: "green" }, end]);
});

test("a group is listed in pages, each member once", async (t) => {
  const service = emulator.hub("pages");
  const expected = [];
  for (let i = 0; i < 7; i++) {
    const { connectionId } = await connect(t, service, { userId: i === 3 ? undefined : `user${i}`, groups: ["red"] });
    expected.push(i === 3 ? { connectionId } : { connectionId, userId: `user${i}` });
  }
  const byId = (members) => members.sort((a, b) => (a.connectionId < b.connectionId ? -1 : 1));
  byId(expected);
  const group = service.group("red");
  const plain = (members) => byId(members.map(({ connectionId, userId }) => (userId == null ? { connectionId } : { connectionId, userId })));

  const all = [];
  for await (const member of await group.listConnections({ maxPageSize: 3 })) all.push(member);
  assert.deepEqual(plain(all), expected);

  const sizes = [];
  let continuationToken;
  for await (const page of (await group.listConnections({ maxPageSize: 3 })).byPage()) {
    sizes.push(page.length);
    continuationToken ??= page.continuationToken;
  }
  assert.deepEqual(sizes, [3, 3, 1]);

  const top = [];
  for await (const member of await group.listConnections({ maxPageSize: 2, top: 5 })) top.push(member);
  assert.deepEqual(plain(top), expected.filter(({ connectionId }) => top.some((m) => m.connectionId === connectionId)));
  assert.equal(top.length, 5);
});

test("permissions are granted, checked and revoked", async (t) => {
  const service = emulator.hub("permissions");
  const alice = await connect(t, service, { userId: "alice", roles: ["webpubsub.joinLeaveGroup.red"] });
  const id = alice.connectionId;
  const has = (permission, targetName) => service.hasPermission(id, permission, { targetName });
  assert.equal(await has("joinLeaveGroup", "red"), true);
  assert.equal(await has("joinLeaveGroup", "blue"), false);
  assert.equal(await has("sendToGroup", "red"), false);

  await assert.rejects(alice.client.sendToGroup("red", "x", "text"), (err) => err.errorDetail.name === "Forbidden");
  await service.grantPermission(id, "sendToGroup", { targetName: "red" });
  assert.equal(await has("sendToGroup", "red"), true);
  await alice.client.sendToGroup("red", "x", "text");
  await service.revokePermission(id, "sendToGroup", { targetName: "red" });
  assert.equal(await has("sendToGroup", "red"), false);
  await assert.rejects(alice.client.sendToGroup("red", "x", "text"), (err) => err.errorDetail.name === "Forbidden");

  await service.revokePermission(id, "joinLeaveGroup", { targetName: "red" });
  assert.equal(await has("joinLeaveGroup", "red"), false, "a revoke overrides the token's role");
  await assert.rejects(service.grantPermission("nobody", "sendToGroup", { targetName: "red" }), { statusCode: 404 });
  assert.equal(await service.hasPermission("nobody", "sendToGroup", { targetName: "red" }), false);
});

test("a close reaches the right connections, with its reason", async (t) => {
  const service = emulator.hub("closing");
  const open = (userId, ...groups) => connect(t, service, { userId, groups });
  const one = await open("alice");
  await service.closeConnection(one.connectionId, { reason: "one" });
  assert.equal((await one.disconnected()).message?.message, `${goodbye} Reason: one`);
  assert.equal(await service.connectionExists(one.connectionId), false);

  const [alice, bob, carol] = [await open("alice"), await open("bob", "red"), await open("carol", "red")];
  await service.closeUserConnections("alice", { reason: "user" });
  assert.equal((await alice.disconnected()).message?.message, `${goodbye} Reason: user`);
  await service.group("red").closeAllConnections({ reason: "group" });
  assert.equal((await bob.disconnected()).message?.message, `${goodbye} Reason: group`);
  assert.equal((await carol.disconnected()).message?.message, `${goodbye} Reason: group`);

  const last = await open("dave");
  await service.closeAllConnections({ reason: "all" });
  assert.equal((await last.disconnected()).message?.message, `${goodbye} Reason: all`);
  await service.closeConnection("nobody");
});

test("a client access token is valid for its hub only", async (t) => {
  const service = emulator.hub("tokens");
  const { url, baseUrl, token } = await service.getClientAccessToken({ userId: "alice", groups: ["red"], roles: [] });
  assert.equal(url, `${baseUrl}?access_token=${token}`);
  const alice = await connectRaw(t, url);
  assert.equal(await service.userExists("alice"), true);
  assert.equal(await service.groupExists("red"), true);
  alice.socket.close();

  for (const [what, wrong] of [
    ["no token", baseUrl],
    ["a broken token", `${url}x`],
    ["another hub's token", url.replace("/hubs/tokens", "/hubs/other")],
  ]) {
    await assert.rejects(connectRaw(t, wrong), /401/, what);
  }
});

test("a raw client receives text and JSON as text frames, binary as binary frames", async (t) => {
  const service = emulator.hub("raw");
  const raw = await connectRaw(t, (await service.getClientAccessToken()).url);
  await service.sendToAll(text.data, asText);
  await service.sendToAll(json.data);
  await service.sendToAll(binary.data);
  const [first, second, third] = await raw.inbox.take(3);
  assert.equal(first, text.data);
  assert.deepEqual(JSON.parse(second), json.data);
  assert.deepEqual(third, binary.data);
});

test("a bad request fails with the service's error body", async () => {
  const service = emulator.hub("errors");
  await assert.rejects(service.sendToAll("x", { ...asText, filter: "userId eq" }), (err) => {
    assert.equal(err.statusCode, 400);
    assert.match(err.message, /at position 9/);
    return true;
  });
  await assert.rejects(service.sendToAll("x", { ...asText, messageTtlSeconds: 301 }), { statusCode: 400 });
  await assert.rejects(emulator.hub("1bad").sendToAll("x", asText), { statusCode: 400 });
});

test("a wrong access key is rejected", async () => {
  const { AzureKeyCredential, WebPubSubServiceClient } = await import("@azure/web-pubsub");
  const wrong = new WebPubSubServiceClient(emulator.endpoint, new AzureKeyCredential("wrong"), "auth", {
    allowInsecureConnection: true,
    retryOptions: { maxRetries: 0 },
  });
  await assert.rejects(wrong.sendToAll("x", asText), { statusCode: 401 });
});
