// Asks the daemon once a second and shows what it says. Text is set as text, never as markup: names come from anywhere.

import { drawFeeds, drawMap, drawRates, LINES, shape } from "./draw.js";
import { count, few, node, percent, rate, registry, size, span } from "./words.js";

const EVERY = 1000;
const AFTER_TROUBLE = 3000;
// What has happened is told to those who listen, and not more often than this.
const TELL_EVERY = 10000;
// What is seen for the first time is new, if it is not older than this; else it was only not asked for.
const NEW_MILLIS = 5000;
// So much of what can be long is shown until somebody asks for all of it.
const MOST = { tasks: 8, ended: 5, saved: 12, members: 12, remarks: 5 };
// And so much of each is asked for meanwhile: the lists of a large cluster would be a megabit a second.
const ASKED = 13;
// Names of nodes in the words of one download.
const MOST_NODES = 3;

const at = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// === the token ===

// It stands behind the #, which no browser sends anywhere; from there it goes into this tab's memory.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("dfget-token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("dfget-token") ?? "";
}

// === asking ===

let token = "";
let paused = false;
let timer = 0;
let asking = false;
let last = null;

function later(pause) {
  clearTimeout(timer);
  timer = setTimeout(() => ask(), pause);
}

// `once`: also while it is paused.
async function ask(once = false) {
  if ((paused && !once) || document.hidden || asking) return;
  asking = true;
  try {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await fetch(whole.size > 0 ? "api/v1/live" : `api/v1/live?most=${ASKED}`, { headers, cache: "no-store", signal: AbortSignal.timeout(8000) });
    if (answer.status === 401 || answer.status === 403) return locked();
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    const live = await answer.json();
    if (paused && !once) return;
    show(live);
    state("");
    later(EVERY);
  } catch (error) {
    state(`The daemon does not answer (${error.message}); asking again.`);
    later(AFTER_TROUBLE);
  } finally {
    asking = false;
  }
}

function locked() {
  at("main").hidden = true;
  sessionStorage.removeItem("dfget-token");
  state("This page opens only with a token of the running daemon. Type “dfget top --web” on the node, as root or as the daemon's own user, and open the address that it prints.");
}

function state(words) {
  const place = at("state");
  const said = words || (paused ? "Paused." : "Live.");
  place.classList.toggle("trouble", words !== "");
  if (place.textContent !== said) place.textContent = said;
}

// === showing ===

function show(live) {
  at("main").hidden = false;
  at("host").textContent = live.host ? `on ${live.host}` : "";
  document.title = `dfget on ${live.host}`;
  at("about").textContent = `version ${live.version}, up for ${span(live.atMillis / 1000 - live.startedAt)}`;
  showNow(live);
  showTasks(live);
  showEnded(live);
  showFeeds(live);
  showRates(live);
  showSaved(live);
  showMembers(live);
  showRemarks(live);
  tell(live);
  last = live;
}

function showNow(live) {
  const tiles = [
    ["clients", "To clients", rate(live.rates.clients)],
    ["cache", "Of that, from the cache", rate(live.rates.cache)],
    ["peers", "From other nodes", rate(live.rates.peers)],
    ["origin", "From registries", rate(live.rates.origin)],
    ["to-peers", "To other nodes", rate(live.rates.toPeers)],
  ];
  const place = at("now");
  if (place.childElementCount !== tiles.length) {
    place.replaceChildren(...tiles.map(([kind, name]) =>
      make("div", { className: kind }, make("dt", {}, name), make("dd", {}))));
  }
  tiles.forEach(([, , value], index) => { place.children[index].lastElementChild.textContent = value; });
}

const cards = new Map();

function showTasks(live) {
  at("idle").hidden = live.running > 0;
  const present = new Set(shortened("tasks", live.tasks).map((task) => task.id));
  for (const [id, card] of cards) {
    if (!present.has(id)) {
      card.remove();
      cards.delete(id);
    }
  }
  for (const task of shortened("tasks", live.tasks)) {
    const card = cards.get(task.id) ?? newCard(task);
    fill(card, task);
  }
  // Of those that cannot be shown.
  const left = whole.has("tasks") ? live.running - live.tasks.length : 0;
  at("left").hidden = left <= 0;
  at("left").textContent = `${count(left, "newer one is", "newer ones are")} not shown.`;
  at("downloads-h").textContent = live.running > 0 ? `Downloads (${live.running})` : "Downloads";
}

function newCard(task) {
  const map = shape("svg", { class: "map", preserveAspectRatio: "none", "aria-hidden": "true" });
  const bar = make("div", {}, map);
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  const card = make("article", { className: "task" },
    make("h3", {}, task.name), bar, make("p", { className: "figures" }), make("p", { className: "givers" }),
    make("p", { className: "takers" }));
  bar.setAttribute("aria-label", task.name);
  cards.set(task.id, card);
  at("tasks").append(card);
  return card;
}

function fill(card, task) {
  const bar = card.querySelector("[role=progressbar]");
  drawMap(bar.firstElementChild, task.map);
  const done = percent(task.present, task.total ?? 0);
  const left = task.total !== null && task.rate > 0 ? (task.total - task.present) / task.rate : null;
  const words = [
    task.total === null ? size(task.present) : `${done} %, ${size(task.present)} of ${size(task.total)}`,
    rate(task.rate),
    left === null ? null : `${span(left)} left`,
    `${size(task.fromPeers)} from nodes, ${size(task.fromOrigin)} from ${registry(task.registry)}`,
    count(task.clients, "client", "clients"),
  ].filter(Boolean);
  if (task.total === null) bar.removeAttribute("aria-valuenow");
  else bar.setAttribute("aria-valuenow", String(done));
  bar.setAttribute("aria-valuetext", words.slice(0, 3).join(", "));
  card.querySelector(".figures").textContent = words.join(" · ");
  const givers = task.parents.map((parent) => `${node(parent.node)} ${size(parent.bytes)}`);
  card.querySelector(".givers").textContent = givers.length ? `from ${few(givers, MOST_NODES)}` : "";
  card.querySelector(".takers").textContent = task.children.length ? `to ${few(task.children.map(node), MOST_NODES)}` : "";
}

// === what can be long ===

const whole = new Set();

// The first of `rows`, or all of them where somebody asked for that by the button below the list.
function shortened(name, rows) {
  const most = MOST[name];
  const button = at(`${name}-more`);
  button.hidden = rows.length <= most;
  const open = whole.has(name);
  const words = open ? "Show fewer" : "Show all";
  if (button.textContent !== words) button.textContent = words;
  button.setAttribute("aria-expanded", String(open));
  return open ? rows : rows.slice(0, most);
}

for (const name of Object.keys(MOST)) {
  at(`${name}-more`).addEventListener("click", () => {
    if (!whole.delete(name)) whole.add(name);
    if (last) show(last);
    ask(true);
  });
}

// Replaces what a list shows only where that changed, so that nobody who reads it is disturbed.
function list(place, rows, build) {
  const key = JSON.stringify(rows);
  if (place.dataset.shown === key) return;
  place.dataset.shown = key;
  place.replaceChildren(...rows.map(build));
}

// Rounded, so that a list does not change each second.
function ago(seconds) {
  return seconds < 10 ? "just now" : `${span(Math.floor(seconds / 10) * 10)} ago`;
}

function showEnded(live) {
  const now = live.atMillis / 1000;
  const rows = shortened("ended", live.ended).map((ended) => {
    const whence = ended.fromPeers > 0 ? `, ${percent(ended.fromPeers, ended.total)} % of it from other nodes` : "";
    const what = ended.failure === null
      ? `${ended.name}: ${size(ended.total ?? 0)} in ${span(ended.tookMillis / 1000)}${whence}`
      : `${ended.name} failed: ${ended.failure}`;
    return { what, failed: ended.failure !== null, ago: ago(now - ended.at) };
  });
  at("ended-h").hidden = rows.length === 0;
  list(at("ended"), rows, (row) => make("li", { className: row.failed ? "down" : "" }, `${row.what} (${row.ago})`));
}

// A row under these headings, which stand in it again where a screen is too narrow for columns.
function cells(row, headings) {
  const made = row.map((words, index) => {
    const cell = make(index === 0 ? "th" : "td", {}, words);
    cell.setAttribute("role", index === 0 ? "rowheader" : "cell");
    if (index > 0) cell.dataset.heading = headings[index];
    return cell;
  });
  made[0].scope = "row";
  return rowOf(made);
}

// Roles are written out, for a row that is no `table-row` on a narrow screen would lose its own.
function rowOf(made, className = "") {
  const row = make("tr", { className }, ...made);
  row.setAttribute("role", "row");
  return row;
}

function headings(table) {
  return [...table.tHead.querySelectorAll("th")].map((heading) => heading.textContent);
}

function showFeeds(live) {
  drawFeeds(at("feeds"), live);
  const busy = (all) => all.filter((one) => one.rate > 0).length;
  at("feeds-words").textContent = live.parents.length + live.children.length === 0
    ? "No other node has fed this one or was fed by it since the daemon started."
    : `${count(busy(live.parents), "node feeds", "nodes feed")} this one now, and it feeds ${count(busy(live.children), "other", "others")}.`;
  const rows = [
    ...live.registries.map((one) => [registry(one.name), live.host, rate(one.rate), size(one.bytes)]),
    ...live.parents.map((one) => [node(one.node), live.host, rate(one.rate), size(one.bytes)]),
    ...live.children.map((one) => [live.host, node(one.node), rate(one.rate), size(one.bytes)]),
  ];
  const table = at("feeds-table");
  list(table.tBodies[0], rows, (row) => cells(row, headings(table)));
}

function showRates(live) {
  const legend = at("rates-legend");
  if (legend.childElementCount === 0) {
    legend.append(...LINES.map(([, name, words]) => make("span", {},
      shape("svg", { viewBox: "0 0 28 10" }, shape("line", { class: `curve ${name}`, x1: 0, x2: 28, y1: 5, y2: 5 })), ` ${words}`)));
    at("rates-table").tHead.replaceChildren(make("tr", {},
      ...["When", ...LINES.map(([, , words]) => words)].map((words) => make("th", { scope: "col", role: "columnheader" }, words))));
    at("rates-table").tHead.rows[0].setAttribute("role", "row");
  }
  drawRates(at("rates"), live.history);
  const table = at("rates-table");
  if (!table.closest("details").open) return;
  const some = Math.round(30000 / (live.history.everyMillis || 1000));
  const rows = [];
  for (let end = live.history.clients.length; end > 0; end -= some) {
    const mean = (line) => {
      const part = line.slice(Math.max(0, end - some), end);
      return rate(part.reduce((sum, value) => sum + value, 0) / part.length);
    };
    const when = rows.length === 0 ? "the last half minute" : `${span(rows.length * 30)} before`;
    rows.push([when, ...LINES.map(([key]) => mean(live.history[key]))]);
  }
  list(table.tBodies[0], rows, (row) => cells(row, headings(table)));
}

function showSaved(live) {
  const sum = (key) => live.registries.reduce((sum, one) => sum + one[key], 0);
  at("saved-words").textContent =
    `${size(sum("savedBytes"))} and ${count(sum("savedRequests"), "request", "requests")} were not asked of registries; they sent ${size(sum("bytes"))}.`;
  const store = live.store, meter = at("store");
  meter.hidden = !store?.quotaBytes;
  if (store) {
    const of = store.quotaBytes ? ` of ${size(store.quotaBytes)}` : "";
    const free = store.freeBytes === null ? "" : `; ${size(store.freeBytes)} free on its disk`;
    at("store-words").textContent = `The cache holds ${count(store.contents, "content", "contents")}, ${size(store.usedBytes)}${of}${free}. “dfget cache ls” lists them.`;
    meter.value = percent(store.usedBytes, store.quotaBytes ?? 0);
  } else {
    at("store-words").textContent = `There is no cache, pulls stream through: ${live.noStore ?? ""}`;
  }
  const table = at("saved");
  list(table.tBodies[0], shortened("saved", live.registries), (one) => cells([registry(one.name), size(one.bytes),
    size(one.savedBytes), one.requests.toLocaleString("en"), one.savedRequests.toLocaleString("en"), String(one.logins)], headings(table)));
}

function showMembers(live) {
  const cluster = live.cluster;
  at("members-scroll").hidden = !cluster || cluster.members.length === 0;
  at("members-more").hidden = true;
  if (!cluster) {
    at("members-words").textContent = "This node belongs to no cluster.";
    return;
  }
  const left = whole.has("members") ? cluster.count - cluster.members.length : 0;
  at("members-words").textContent = cluster.askedAt === 0
    ? "They are being asked …"
    : `${cluster.up} of ${cluster.count} are up${left > 0 ? `; ${left} more are not shown` : ""}.`;
  const table = at("members");
  list(table.tBodies[0], shortened("members", cluster.members), (one) => {
    const name = one.thisNode ? `${one.name} (this node)` : one.name;
    if (one.down !== null) {
      const why = make("td", { className: "why", colSpan: 6 }, `down: ${one.down}`);
      why.setAttribute("role", "cell");
      const named = make("th", { scope: "row" }, name);
      named.setAttribute("role", "rowheader");
      return rowOf([named, why], "down left");
    }
    return cells([name, `up, ${one.version}`, String(one.running), one.stored.toLocaleString("en"), size(one.fromPeers),
      size(one.fromOrigin), size(one.toPeers)], headings(table));
  });
}

function showRemarks(live) {
  at("quiet").hidden = live.remarks.length > 0;
  const rows = shortened("remarks", live.remarks).map((one) => {
    const when = new Date(one.at * 1000).toLocaleTimeString();
    const often = one.times > 1 ? ` (${one.times} times)` : "";
    return { error: one.error, words: `${when} ${one.error ? "Error" : "Warning"}: ${one.text}${often}` };
  });
  list(at("remarks"), rows, (row) => make("li", { className: row.error ? "down" : "" }, row.words));
}

// === for those who listen ===

let toldAt = 0;
let toTell = [];

function tell(live) {
  if (last) {
    const known = new Set(last.tasks.map((task) => task.id));
    const isNew = (task) => !known.has(task.id) && task.ageMillis < NEW_MILLIS;
    const begun = live.tasks.filter(isNew).map((task) => task.name);
    const before = new Set(last.ended.map((ended) => `${ended.id} ${ended.at}`));
    const isLate = (one) => !before.has(`${one.id} ${one.at}`) && one.at * 1000 > last.atMillis - NEW_MILLIS;
    const ended = live.ended.filter(isLate);
    const newest = last.remarks[0]?.number ?? 0;
    const errors = live.remarks.filter((one) => one.error && one.number > newest);
    if (begun.length) toTell.push(begun.length > 2 ? `${begun.length} downloads began.` : `Began: ${begun.join(", ")}.`);
    if (ended.length) toTell.push(ended.length > 2 ? `${ended.length} downloads ended.` : ended.map((one) => `${one.name} ${one.failure === null ? "is here" : "failed"}.`).join(" "));
    if (errors.length) toTell.push(`Error: ${errors[0].text}`);
  }
  const now = performance.now();
  if (toTell.length > 0 && (toldAt === 0 || now - toldAt >= TELL_EVERY)) {
    at("told").replaceChildren(make("p", {}, toTell.slice(-3).join(" ")));
    toTell = [];
    toldAt = now;
  }
}

// === beginning ===

at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  state("");
  if (!paused) ask();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
new IntersectionObserver((seen) => {
  at("feeds").classList.toggle("away", !seen[seen.length - 1].isIntersecting);
}).observe(at("feeds"));
addEventListener("resize", () => { if (last) { drawFeeds(at("feeds"), last); drawRates(at("rates"), last.history); } });
addEventListener("hashchange", () => { token = takeToken(); ask(); });
token = takeToken();
ask();
