// Starts the emulator program as a process, and connects clients that keep the messages they receive.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubClient } from "@azure/web-pubsub-client";
import WebSocket from "ws";

/** The message to a client that is closed over REST. " Reason: " and the caller's reason may follow. */
export const goodbye = "Application server closed the connection.";

/** Start the program in the environment variable EMULATOR on a free port. */
export async function startEmulator(...args) {
  const program = process.env.EMULATOR;
  if (!program) {
    throw new Error("EMULATOR must be the path of the emulator program; ./run builds the program and sets EMULATOR");
  }
  const child = spawn(program, ["-addr", "127.0.0.1:0", "-log-level", "warn", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill); // ends the emulator if the test process ends early
  process.once("SIGTERM", () => process.exit(1));
  const lines = [];
  const reader = createInterface(child.stdout).on("line", (line) => lines.push(line));
  await Promise.race([
    once(reader, "line"),
    exited.then(([code]) => Promise.reject(new Error(`the emulator exited with ${code} before it printed the connection string`))),
  ]);
  const connectionString = /^connection string: (Endpoint=.*)$/.exec(lines[0])?.[1];
  if (!connectionString) {
    child.kill("SIGKILL");
    throw new Error(`the emulator printed ${JSON.stringify(lines[0])}`);
  }
  return {
    connectionString,
    endpoint: /Endpoint=([^;]+)/.exec(connectionString)[1],

    /** Return a service client of a hub. Each test uses its own hub, so that tests do not affect each other. */
    hub(name) {
      return new WebPubSubServiceClient(connectionString, name, { allowInsecureConnection: true });
    },

    /** End the program with SIGTERM. Return its exit code, its signal and the lines that it printed. */
    async stop() {
      child.kill("SIGTERM");
      const [code, signal] = await expected(exited, "the emulator's end");
      process.off("exit", kill);
      return { code, signal, lines };
    },
  };
}

/** Wait for a promise. Reject with an error that names what is missing after a limit that is far longer than any wait here. */
export async function expected(promise, what) {
  const abort = new AbortController();
  const limit = delay(20_000, undefined, { signal: abort.signal }).then(
    () => Promise.reject(new Error(`timed out waiting for ${what}`)),
    () => {},
  );
  try {
    return await Promise.race([promise, limit]);
  } finally {
    abort.abort();
  }
}

/** A queue. Readers wait until an item arrives. */
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
 * Connect the official client. token are the options of getClientAccessToken, and options are those of WebPubSubClient. Unless the
 * options enable it, the client does not send pings, whose timers would keep the process running, and does not retry.
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
  const listenFor = (event) => {
    const promise = new Promise((resolve) => client.on(event, resolve));
    return () => expected(promise, `the client's event ${event}`);
  };
  const [connected, disconnected, stopped] = [listenFor("connected"), listenFor("disconnected"), listenFor("stopped")];
  await client.start();
  t.after(() => {
    client.stop();
    return stopped();
  });
  const { connectionId, userId } = await connected();
  return { client, inbox, connectionId, userId, disconnected, stopped };
}

/** Connect wsclient as a member of a group, with the program in the environment variable WEBPUBSUB. Return its messages. */
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
  if (event !== "connected") throw new Error(`the first event of webpubsub connect was ${event}`);
  return inbox;
}

/** Return the fields of a message that tests compare, without absent fields. Binary data is a Buffer. */
function received({ fromUserId, group, dataType, data }) {
  const message = { dataType, data: dataType === "binary" ? Buffer.from(data) : data };
  if (group !== undefined) message.group = group;
  if (fromUserId !== undefined && fromUserId !== null) message.fromUserId = fromUserId;
  return message;
}

/** Connect a plain WebSocket, with or without a subprotocol. Text frames are strings and binary frames are Buffers. */
export async function connectRaw(t, url, protocols = []) {
  const socket = new WebSocket(url, protocols);
  const inbox = new Inbox();
  socket.on("message", (data, isBinary) => inbox.push(isBinary ? data : data.toString()));
  const closing = new Promise((resolve) => socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() })));
  t.after(() => socket.terminate());
  await expected(once(socket, "open"), "the WebSocket");
  return { socket, inbox, closed: () => expected(closing, "the end of the WebSocket") };
}
