// The emulator program as a process of its own, and clients of it that remember what they received.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubClient } from "@azure/web-pubsub-client";
import WebSocket from "ws";

/** What the service says to a client that it closes by REST, with " Reason: " and the caller's reason after it. */
export const goodbye = "Application server closed the connection.";

/** Start the program that the environment variable EMULATOR names, on a port of its choice. */
export async function startEmulator(...args) {
  const program = process.env.EMULATOR;
  if (!program) {
    throw new Error("EMULATOR must be the path of the emulator program; ./run builds it and sets it");
  }
  const child = spawn(program, ["-addr", "127.0.0.1:0", "-log-level", "warn", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill); // when a test file dies early, its emulator does too
  process.once("SIGTERM", () => process.exit(1));
  const lines = [];
  const reader = createInterface(child.stdout).on("line", (line) => lines.push(line));
  await Promise.race([
    once(reader, "line"),
    exited.then(([code]) => Promise.reject(new Error(`the emulator exited with ${code} before it printed its line`))),
  ]);
  const connectionString = /^connection string: (Endpoint=.*)$/.exec(lines[0])?.[1];
  if (!connectionString) {
    child.kill("SIGKILL");
    throw new Error(`the emulator printed ${JSON.stringify(lines[0])}`);
  }
  return {
    connectionString,
    endpoint: /Endpoint=([^;]+)/.exec(connectionString)[1],

    /** A service client; each name is a hub of its own, so that tests do not meet. */
    hub(name) {
      return new WebPubSubServiceClient(connectionString, name, { allowInsecureConnection: true });
    },

    /** End the program as an operating system would, and return how it went. */
    async stop() {
      child.kill("SIGTERM");
      const [code, signal] = await expected(exited, "the emulator's end");
      process.off("exit", kill);
      return { code, signal, lines };
    },
  };
}

/** Wait for what must come, and say what did not. The limit is far beyond what anything takes here. */
export async function expected(promise, what) {
  const abort = new AbortController();
  const limit = delay(20_000, undefined, { signal: abort.signal }).then(
    () => Promise.reject(new Error(`${what} did not come`)),
    () => {},
  );
  try {
    return await Promise.race([promise, limit]);
  } finally {
    abort.abort();
  }
}

/** A queue whose reader waits for what is not there yet. */
export class Inbox {
  #items = [];
  #readers = [];

  push(item) {
    const reader = this.#readers.shift();
    reader ? reader(item) : this.#items.push(item);
  }

  async next() {
    if (this.#items.length > 0) return this.#items.shift();
    return expected(new Promise((resolve) => this.#readers.push(resolve)), "a message");
  }

  async take(n) {
    const items = [];
    while (items.length < n) {
      items.push(await this.next());
    }
    return items;
  }
}

/**
 * Connect the official client. Its token options are those of getClientAccessToken, its client options those of
 * WebPubSubClient. It neither pings (its timers would keep the process) nor retries, unless the options say so.
 */
export async function connect(t, service, token = {}, options = {}) {
  const access = await service.getClientAccessToken(token);
  const client = new WebPubSubClient(access.url, {
    autoReconnect: false,
    keepAliveIntervalInMs: 0,
    keepAliveTimeoutInMs: 0,
    messageRetryOptions: { maxRetries: 0 },
    ...options,
  });
  const inbox = new Inbox();
  client.on("server-message", ({ message }) => inbox.push(received(message)));
  client.on("group-message", ({ message }) => inbox.push(received(message)));
  const heard = (event) => {
    const promise = new Promise((resolve) => client.on(event, resolve));
    return () => expected(promise, `the client's event ${event}`);
  };
  const [connected, disconnected, stopped] = [heard("connected"), heard("disconnected"), heard("stopped")];
  await client.start();
  t.after(() => {
    client.stop();
    return stopped();
  });
  const { connectionId, userId } = await connected();
  return { client, inbox, connectionId, userId, disconnected, stopped };
}

/** Connect this module's own client, through the program that the environment variable WEBPUBSUB names, as a group's member. */
export async function connectGo(t, emulator, service, group) {
  const args = ["connect", "--json", "--hub", service.hubName, "--group", group];
  const child = spawn(process.env.WEBPUBSUB, args, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, WEBPUBSUB_CONNECTION_STRING: emulator.connectionString },
  });
  const exited = once(child, "exit");
  t.after(() => {
    child.kill("SIGTERM");
    return expected(exited, "the end of webpubsub connect");
  });
  const inbox = new Inbox();
  createInterface(child.stdout).on("line", (line) => inbox.push(JSON.parse(line)));
  const { event } = await inbox.next();
  if (event !== "connected") throw new Error(`webpubsub connect began with ${event}`);
  return inbox;
}

/** What a test compares of a message: binary as a Buffer, and nothing that is not there. */
function received({ fromUserId, group, dataType, data }) {
  const message = { dataType, data: dataType === "binary" ? Buffer.from(data) : data };
  if (group !== undefined) message.group = group;
  if (fromUserId !== undefined && fromUserId !== null) message.fromUserId = fromUserId;
  return message;
}

/** Connect a plain WebSocket: no subprotocol, or the one given. Frames are strings or, for binary ones, Buffers. */
export async function connectRaw(t, url, protocols = []) {
  const socket = new WebSocket(url, protocols);
  const inbox = new Inbox();
  socket.on("message", (data, isBinary) => inbox.push(isBinary ? data : data.toString()));
  const closing = new Promise((resolve) => socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() })));
  t.after(() => socket.terminate());
  await expected(once(socket, "open"), "the WebSocket");
  return { socket, inbox, closed: () => expected(closing, "the end of the WebSocket") };
}
