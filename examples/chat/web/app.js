// The page of the chat. It uses the subprotocol json.webpubsub.azure.v1. Each action of the user is an event, which the
// service forwards to the application; the results come back as messages. Only typing notifications go directly to the
// room's group, without the application.

const $ = (id) => document.getElementById(id);
const post = (path, body) => fetch(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body ?? {}),
});

let user = "";
let room = location.hash.slice(1).toLowerCase(); // the current room, or the room to enter
if (!/^[a-z0-9_-]{1,24}$/.test(room)) room = "lobby";
let group = "";          // the room's group; "" if we are not in a room
let socket = null;
let welcomed = false;    // whether this socket has received its welcome
let attempts = 0;        // failed attempts since the last successful connection
let host = "";
let recipient = "";      // the recipient of direct messages; "" = the room
const known = new Set(["lobby", room]);
const presences = new Map(); // room -> presence, which may arrive before the welcome
const typing = new Map(); // user -> timer

// ---- login and connection

async function start() {
  const answer = await post("/api/negotiate").catch(() => null);
  if (answer?.status === 401) {
    show("login");
    return;
  }
  show("chat");
  if (!answer?.ok) {
    reconnectLater();
    return;
  }
  const { name, url } = await answer.json();
  if (socket) return; // connected in the meantime
  if (name !== user) $("messages").replaceChildren(); // messages of another user
  user = name;
  $("me").textContent = user;
  connect(url);
}

function show(which) {
  $("login").hidden = which !== "login";
  $("chat").hidden = which !== "chat";
  $(which === "login" ? "name" : "text").focus();
}

function connect(url) {
  status("connecting");
  let opened = false;
  const wanted = room;
  const ws = new WebSocket(url + "&room=" + encodeURIComponent(wanted), "json.webpubsub.azure.v1");
  socket = ws;
  welcomed = false;
  ws.onopen = () => { opened = true; attempts = 0; };
  ws.onmessage = (event) => receive(JSON.parse(event.data));
  ws.onclose = () => {
    if (socket !== ws) return;
    socket = null;
    status("offline");
    leaveRoom();
    if (!opened && attempts === 0) { // browsers hide why a handshake failed; most likely it was rejected
      notice(`You cannot enter ${wanted} right now. Try another room.`, true);
    }
    reconnectLater();
  };
}

let retry = 0;

function reconnectLater() {
  const delay = Math.min(30, 2 ** attempts++) * 1000;
  retry = setTimeout(start, delay);
}

// go enters a room: with an event if we are connected, otherwise with a new connection. While a connection is being made,
// the welcome triggers the event.
function go(name) {
  if (welcomed && send("enter", { room: name })) return;
  room = name;
  attempts = 0;
  if (socket) return;
  clearTimeout(retry);
  start();
}

$("login-form").onsubmit = async (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  const answer = await post("/api/login", { name: $("name").value.trim().normalize() }).catch(() => null);
  if (!answer?.ok) {
    $("login-error").textContent = answer ? await answer.text() : "The chat is unavailable right now.";
    return;
  }
  start();
};

$("logout").onclick = async () => {
  const ws = socket;
  socket = null; // prevents a reconnect
  ws?.close();
  await post("/api/logout").catch(() => null);
  location.reload();
};

// ---- incoming

function receive(frame) {
  if (frame.type === "system") {
    status(frame.event === "connected" ? "connected" : "offline");
    return;
  }
  if (frame.type === "ack" && !frame.success) {
    notice(frame.error?.name === "Forbidden" ? "You cannot do that here." : "That did not work. Try again.", true);
    return;
  }
  if (frame.type !== "message") return;
  if (frame.from === "group" && frame.fromUserId) {
    // From another client, not from the application: accept only typing notifications.
    if (frame.data?.type === "typing" && frame.group === group) showTyping(frame.fromUserId);
    return;
  }
  const data = frame.data;
  switch (data.type) {
    case "welcome": return enter(data);
    case "message": return data.room === room && group ? showMessage(data) : undefined;
    case "direct": return showMessage(data);
    case "presence":
      presences.set(data.room, data);
      return data.room === room && group ? showPeople(data) : undefined;
    case "removed":
      notice(data.text, true);
      known.delete(data.room);
      if (data.room === room) leaveRoom();
      return showRooms();
    case "muted":
    case "unmuted":
    case "error":
      return notice(data.text, data.type !== "unmuted");
  }
}

function enter(data) {
  if (!welcomed && data.room !== room) send("enter", { room }); // chosen while we were connecting
  welcomed = true;
  if (data.room !== room || !group) { // keep direct messages: they are in no history
    for (const li of document.querySelectorAll("#messages > :not(.direct)")) li.remove();
  }
  room = data.room;
  group = data.group;
  known.add(room);
  history.replaceState(null, "", "#" + room);
  $("room").textContent = room;
  document.title = "#" + room + " · Chat";
  for (const message of data.history) showMessage(message);
  $("messages").lastElementChild?.scrollIntoView({ block: "end" });
  enable(true);
  showRooms();
  showPeople(presences.get(room) ?? { host: "", people: [] });
}

// leaveRoom resets the page when we are offline or removed.
function leaveRoom() {
  group = "";
  host = "";
  presences.clear();
  $("people").replaceChildren();
  for (const timer of typing.values()) clearTimeout(timer);
  typing.clear();
  showTyping();
  enable(false);
}

function enable(on) {
  $("text").disabled = $("send").disabled = !on;
  $("text").placeholder = on ? "Say something" : "You are not in a room";
}

function status(state) {
  $("status").textContent = state;
  $("status").dataset.state = state;
}

function showMessage(m) {
  const others = [...$("messages").children];
  if (others.some((other) => other.dataset.id === m.id)) return; // a message may arrive twice, or also in the history
  const li = element("li", m.type);
  const from = m.type === "direct" ? (m.from === user ? `you to ${m.to}` : `${m.from} to you`) : m.from;
  const time = element("time", "", new Date(m.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = new Date(m.at).toISOString();
  const head = element("div");
  head.append(element("span", "from", from), time);
  const body = element("div", "body");
  body.append(head, element("div", "text", m.text));
  li.append(face(m.from), body);
  li.dataset.id = m.id;
  li.dataset.at = m.at;
  // History and new messages may arrive in any order, so sort by time.
  const after = others.find((other) => Number(other.dataset.at) > m.at);
  after ? after.before(li) : $("messages").append(li);
  li.scrollIntoView({ block: "end" });
  clearTyping(m.from);
}

function notice(text, bad) {
  const li = element("li", bad ? "notice bad" : "notice", text);
  $("messages").append(li);
  li.scrollIntoView({ block: "end" });
}

function showPeople(data) {
  host = data.host;
  $("people").replaceChildren(...data.people.map((person) => {
    const li = element("li");
    li.dataset.name = person.name;
    const who = element("button", "who", person.name);
    who.title = "Write only to " + person.name;
    who.onclick = () => writeTo(person.name === user ? "" : person.name);
    li.append(face(person.name), who);
    if (person.name === host) li.append(element("span", "tag", "host"));
    if (person.muted) li.append(element("span", "tag", "muted"));
    if (user === host && person.name !== user) {
      li.append(
        action(person.muted ? "unmute" : "mute", () => send("mute", { user: person.name, muted: !person.muted })),
        action("remove", () => send("remove", { user: person.name })),
      );
    }
    return li;
  }));
}

function showRooms() {
  $("rooms").replaceChildren(...[...known].sort().map((name) => {
    const li = element("li");
    const button = element("button", "", "# " + name);
    if (name === room && group) button.setAttribute("aria-current", "true");
    button.onclick = () => go(name);
    li.append(button);
    return li;
  }));
}

function showTyping(name) {
  if (name && name !== user) {
    clearTimeout(typing.get(name));
    typing.set(name, setTimeout(() => clearTyping(name), 3000));
  }
  const names = [...typing.keys()];
  $("typing").textContent = names.length === 0 ? "" : names.length < 3
    ? names.join(" and ") + (names.length === 1 ? " is typing…" : " are typing…") : "several people are typing…";
}

function clearTyping(name) {
  clearTimeout(typing.get(name));
  typing.delete(name);
  showTyping();
}

// ---- outgoing

let ackId = 0;
let lastTyping = 0;

function send(event, data) {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify({ type: "event", event, ackId: ++ackId, dataType: "json", data }));
  return true;
}

$("say-form").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  const sent = recipient ? send("direct", { to: recipient, text }) : send("say", { text });
  if (!sent) return;
  $("text").value = "";
  lastTyping = 0;
};

$("text").oninput = () => {
  if (recipient || !group || Date.now() - lastTyping < 2000 || socket?.readyState !== WebSocket.OPEN) return;
  lastTyping = Date.now();
  socket.send(JSON.stringify({ type: "sendToGroup", group, noEcho: true, dataType: "json", data: { type: "typing" } }));
};

$("room-form").onsubmit = (event) => {
  event.preventDefault();
  const name = $("room-name").value.trim().toLowerCase();
  if (!name) return;
  $("room-name").value = "";
  go(name);
};

function writeTo(name) {
  recipient = name;
  $("to").hidden = !name;
  $("to").textContent = "to " + name;
  $("text").focus();
}

$("to").onclick = () => writeTo("");

// ---- helpers. Text is set as text, never as HTML.

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function action(text, onclick) {
  const b = element("button", "action", text);
  b.onclick = onclick;
  return b;
}

function face(name) {
  const e = element("span", "face", [...name][0].toUpperCase());
  let hue = 0;
  for (const c of name) hue = (hue * 31 + c.codePointAt(0)) % 360;
  e.style.background = `hsl(${hue} 55% 42%)`;
  return e;
}

enable(false);
showRooms();
start();
