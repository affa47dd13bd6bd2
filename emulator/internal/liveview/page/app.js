"use strict";

// The live view. Data from the server is inserted as text, never as HTML. The page's policy (Trusted Types) enforces this.

const maxKept = 500; // events; older ones are removed

const $ = (id) => document.getElementById(id);

// element creates an element. Its children are elements and texts; undefined, null and "" are omitted.
function element(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children.filter((c) => c !== undefined && c !== null && c !== ""));
  return e;
}

const count = (n, thing) => `${n.toLocaleString()} ${thing}${n === 1 ? "" : "s"}`;

// reconcile updates the children of a list to show items, in order. An element whose item has not changed is kept, including
// the user's selection in it.
function reconcile(list, items, key, render) {
  const old = new Map([...list.children].map((e) => [e.dataset.key, e]));
  let before = list.firstChild;
  for (const item of items) {
    const json = JSON.stringify(item);
    let e = old.get(key(item));
    old.delete(key(item));
    if (!e || e.json !== json) {
      const fresh = render(item, e);
      fresh.dataset.key = key(item);
      fresh.json = json;
      if (e && e !== fresh) {
        if (before === e) before = fresh;
        e.replaceWith(fresh);
      }
      e = fresh;
    }
    if (e === before) before = e.nextSibling;
    else list.insertBefore(e, before);
  }
  while (before) { // the rest is stale; two items may have the same key if they differ in what is redacted
    const next = before.nextSibling;
    before.remove();
    before = next;
  }
}

// The state: hubs, their connections and their groups.

// finder creates a button that searches the traffic for a text.
function finder(className, text, label = text) {
  const b = element("button", className, label);
  b.type = "button";
  b.title = `Search the traffic for ${text}`;
  b.addEventListener("click", () => {
    $("search").value = text;
    show("traffic");
    redraw();
  });
  return b;
}

function renderConnection(c) {
  const who = c.userId ? finder("user", c.userId) : element("span", "user anonymous", "anonymous");
  const head = element("div", "head", who);
  if (c.recovering) {
    const badge = element("span", "badge", "recovering");
    badge.title = "The connection was lost. The client may reconnect within 30 seconds.";
    head.append(badge);
  }
  head.append(element("span", "subprotocol", c.subprotocol || "no subprotocol"));
  const li = element("li", c.recovering ? "recovering" : "", head, finder("id", c.id));
  if (c.groups.length > 0) {
    const chips = element("div", "chips", ...c.groups.map((g) => element("span", "chip", g)));
    if (c.groupCount > c.groups.length) chips.append(element("span", "chip", `+${c.groupCount - c.groups.length}`));
    li.append(chips);
  }
  return li;
}

const renderGroup = (g) =>
  element("li", "", finder("group", g.name), element("span", "members", count(g.members, "member")));

function renderHub(h, card) {
  if (!card) {
    card = element("article", "hub",
      element("div", "hub-title", element("h3", "", h.name), element("span", "summary")),
      element("p", "quiet", "No client is connected."),
      element("ul", "connections"), element("p", "more"),
      element("h4", "", "Groups"), element("ul", "groups"), element("p", "more"));
  }
  const [title, quiet, connections, moreConnections, groupsTitle, groups, moreGroups] = card.children;
  title.lastChild.textContent = `${count(h.connectionCount, "connection")} · ${count(h.userCount, "user")}` +
    (h.tunnelCount > 0 ? ` · ${count(h.tunnelCount, "tunnel")}` : "");
  quiet.hidden = h.connectionCount > 0;
  reconcile(connections, h.connections, (c) => c.id, renderConnection);
  reconcile(groups, h.groups, (g) => g.name, renderGroup);
  groupsTitle.hidden = groups.hidden = h.groupCount === 0;
  more(moreConnections, h.connectionCount - h.connections.length, "connection");
  more(moreGroups, h.groupCount - h.groups.length, "group");
  return card;
}

function more(p, n, thing) {
  p.hidden = n <= 0;
  p.textContent = n > 0 ? `and ${count(n, `more ${thing}`)}` : "";
}

function renderState(s) {
  $("endpoint").textContent = s.endpoint;
  $("client-url").textContent = `${s.endpoint.replace(/^http/, "ws")}/client/hubs/{hub}`;
  const sum = (of) => s.hubs.reduce((n, h) => n + of(h), 0).toLocaleString();
  $("hub-count").textContent = s.hubCount.toLocaleString();
  $("connection-count").textContent = sum((h) => h.connectionCount);
  $("group-count").textContent = sum((h) => h.groupCount);
  $("no-hubs").hidden = s.hubs.length > 0;
  more($("more-hubs"), s.hubCount - s.hubs.length, "hub");
  reconcile($("hubs"), s.hubs, (h) => h.name, renderHub);
}

// The traffic.

let kept = []; // the newest first
let fresh = []; // events since the last drawing, the oldest first
let drawing = false;
let paused = false;
const hiddenKinds = new Set();

const clockTime = new Intl.DateTimeFormat(undefined,
  { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });

function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(2)} ms`;
}

function wanted(e) {
  if (e.kind === "note") return true;
  const text = $("search").value.trim().toLowerCase();
  return !hiddenKinds.has(e.kind) && (text === "" ||
    [e.hub, e.connectionId, e.userId, e.group, e.text, e.data].some((s) => s?.toLowerCase().includes(text)));
}

const kindNames = { rest: "REST", message: "message", event: "event", connection: "connection", group: "group",
  tunnel: "tunnel" };

// describe creates the line that describes an event.
function describe(e) {
  if (e.kind !== "rest") return element("span", "text", e.text);
  const [, method, path, query] = e.text.match(/^(\S+) ([^?]*)(.*)$/s) ?? [null, "", e.text, ""];
  const segments = path.split(/(?<=\/)/).flatMap((s) => [s, element("wbr")]); // where a long path may be broken
  return element("span", "text", element("b", "", method), " ", element("span", "path", ...segments), element("span", "query", query));
}

function renderEvent(e) {
  if (e.kind === "note") return element("li", "note", e.text);
  const li = element("li", "event", element("time", "", clockTime.format(new Date(e.time))),
    element("span", "kind", kindNames[e.kind] ?? e.kind));
  li.dataset.kind = e.kind;
  const result = element("span", "result");
  if (e.status) {
    const status = element("span", "status", String(e.status));
    status.dataset.class = String(e.status)[0];
    result.append(status);
  } else if (e.kind === "rest") {
    const status = element("span", "status", "cut");
    status.title = "An injected fault cut the connection without a response.";
    status.dataset.class = "5";
    result.append(status);
  }
  if (e.durationMs) result.append(element("span", "duration", duration(e.durationMs)));
  const about = element("span", "about");
  for (const [label, value] of [["hub", e.hub], ["group", e.group], ["user", e.userId], ["connection", e.connectionId]]) {
    if (value && !(e.kind === "rest")) about.append(element("span", "tag", element("i", "", label), " ", value));
  }
  li.append(describe(e), result);
  if (about.childNodes.length > 0) li.append(about);
  if (e.data) li.append(element("pre", "data", e.data));
  return li;
}

function add(events) {
  fresh.push(...events);
  if (fresh.length > maxKept) fresh = fresh.slice(-maxKept);
  if (paused) $("pause").textContent = `Resume (${fresh.length}${fresh.length === maxKept ? "+" : ""} new)`;
  else if (!drawing) {
    drawing = true;
    requestAnimationFrame(draw);
  }
}

// draw shows the new events.
function draw() {
  drawing = false;
  if (paused) return;
  const events = fresh.reverse();
  fresh = [];
  kept = [...events, ...kept].slice(0, maxKept);
  $("events").prepend(...events.filter(wanted).map(renderEvent));
  while ($("events").children.length > maxKept) $("events").lastChild.remove();
  drawEmpty();
}

// redraw shows all events that match the filters.
function redraw() {
  $("events").replaceChildren(...kept.filter(wanted).map(renderEvent));
  drawEmpty();
}

function drawEmpty() {
  const empty = $("no-events");
  empty.hidden = $("events").children.length > 0;
  if (empty.hidden) return;
  const [title, text] = kept.length > 0
    ? ["Nothing matches", `None of the last ${count(kept.length, "event")} matches the selected kinds and the search text.`]
    : ["Waiting for traffic", "REST calls, messages and events appear here as they happen. Traffic from before this page was opened is not shown."];
  empty.replaceChildren(element("strong", "", title), element("p", "", text));
}

// The buttons.

function press(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

// show selects the section that a narrow screen shows.
function show(view) {
  document.body.dataset.view = view;
  for (const b of document.querySelectorAll("[data-show]")) press(b, b.dataset.show === view);
}

for (const b of document.querySelectorAll("[data-show]")) b.addEventListener("click", () => show(b.dataset.show));

for (const b of document.querySelectorAll("[data-kind]")) {
  b.addEventListener("click", () => {
    const hide = !hiddenKinds.has(b.dataset.kind);
    if (hide) hiddenKinds.add(b.dataset.kind);
    else hiddenKinds.delete(b.dataset.kind);
    press(b, !hide);
    redraw();
  });
}

$("search").addEventListener("input", redraw);

$("pause").addEventListener("click", () => {
  paused = !paused;
  press($("pause"), paused);
  $("pause").textContent = paused ? "Resume" : "Pause";
  if (!paused) draw();
});

$("clear").addEventListener("click", () => {
  kept = [];
  fresh = [];
  if (paused) $("pause").textContent = "Resume";
  redraw();
});

// The stream.

let missedBefore = 0; // events dropped by streams that have ended
let missed = 0; // events dropped by the current stream

function status(state) {
  $("status").dataset.state = state;
  $("status").textContent = state;
}

function connect() {
  const stream = new EventSource("/liveview/stream");
  stream.addEventListener("open", () => status("live"));
  stream.addEventListener("error", () => {
    if ($("status").dataset.state === "live") {
      add([{ kind: "note", text: "The emulator is gone. Traffic is not shown until it is back." }]);
    }
    status("reconnecting");
    missedBefore += missed;
    missed = 0;
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 2000); // the browser has given up, so retry here
  });
  stream.addEventListener("state", (e) => renderState(JSON.parse(e.data)));
  stream.addEventListener("traffic", (e) => {
    const t = JSON.parse(e.data);
    missed = t.missed;
    const all = missedBefore + missed;
    $("missed").hidden = all === 0;
    $("missed").textContent = `${count(all, "event")} dropped: this page could not keep up with the traffic.`;
    add(t.events);
  });
}

drawEmpty();
connect();
