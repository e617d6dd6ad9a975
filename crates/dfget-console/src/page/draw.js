// Pictures. Each is beside a table that says the same in words.

import { node, rate, registry } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

export function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A map of cells: runs of equal cells are one rectangle.
export function drawMap(svg, map) {
  svg.setAttribute("viewBox", `0 0 ${Math.max(1, map.length)} 20`);
  const cells = [];
  for (let from = 0; from < map.length; ) {
    let to = from + 1;
    while (to < map.length && map[to] === map[from]) to += 1;
    const kind = { p: ["p", 20], o: ["o", 11], "+": ["part", 4] }[map[from]];
    if (kind) {
      const [name, height] = kind;
      cells.push(shape("rect", { class: name, x: from, y: 20 - height, width: to - from, height }));
    }
    from = to;
  }
  svg.replaceChildren(...cells);
}

const ROW = 50;
const MOST = 6;

// The first few, and all others as one.
function fewest(all) {
  if (all.length <= MOST) return all;
  const rest = all.slice(MOST - 1);
  const sum = (key) => rest.reduce((sum, one) => sum + one[key], 0);
  return [...all.slice(0, MOST - 1), { node: `${rest.length} more`, rate: sum("rate"), bytes: sum("bytes") }];
}

// Which ways there are: from the left to this node, and from it to the right.
export function ways(live) {
  const asked = live.registries.filter((registry) => registry.bytes > 0 || registry.rate > 0);
  const registries = asked.map(({ name, rate, bytes }) => ({ node: registry(name), rate, bytes }));
  registries.sort((one, other) => other.rate - one.rate || other.bytes - one.bytes);
  const kind = (kind) => (one) => ({ ...one, node: node(one.node), kind });
  return {
    left: [...fewest(registries).map(kind("origin")), ...fewest(live.parents).map(kind("peers"))],
    right: [
      { node: "clients", rate: live.rates.clients, bytes: null, kind: "clients" },
      ...fewest(live.children).map(kind("to-peers")),
    ],
  };
}

export function drawFeeds(place, live) {
  const { left, right } = ways(live);
  const width = Math.max(280, place.clientWidth);
  const column = Math.min(220, Math.floor(width * 0.31));
  const height = Math.max(left.length, right.length, 2) * ROW + 16;
  const middle = { x: width / 2, y: height / 2, half: Math.min(60, Math.max(34, Math.floor(width * 0.1))) };
  const most = Math.max(1, ...left.map((one) => one.rate), ...right.map((one) => one.rate));
  const drawn = [];
  const box = (x, y, wide, name, words, self) => {
    const room = Math.max(3, Math.floor((wide - 14) / 6.6));
    const cut = name.length > room ? `${name.slice(0, room - 1)}…` : name;
    drawn.push(
      shape("rect", { class: self ? "box self" : "box", x, y: y - 18, width: wide, height: 36, rx: 6 }),
      shape("text", { x: x + 8, y: y - 3 }, cut),
      shape("text", { x: x + 8, y: y + 12, class: "soft" }, words),
    );
  };
  const way = (x1, y1, x2, y2, one) => {
    const bend = (x2 - x1) / 2;
    const path = shape("path", {
      class: `way ${one.kind} ${one.rate > 0 ? "busy" : "idle"}`,
      d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`,
      "stroke-width": one.rate > 0 ? (1.5 + (6 * one.rate) / most).toFixed(1) : 1,
    });
    // The faster, the quicker.
    path.style.animationDuration = `${(1.6 - 1.3 * (one.rate / most)).toFixed(2)}s`;
    drawn.push(path);
  };
  const places = (all) => all.map((one, at) => [one, (height * (at + 1)) / (all.length + 1)]);
  for (const [one, y] of places(left)) way(column, y, middle.x - middle.half, middle.y, one);
  for (const [one, y] of places(right)) way(middle.x + middle.half, middle.y, width - column, y, one);
  for (const [one, y] of places(left)) box(1, y, column - 2, one.node, rate(one.rate), false);
  for (const [one, y] of places(right)) box(width - column + 1, y, column - 2, one.node, rate(one.rate), false);
  box(middle.x - middle.half, middle.y, middle.half * 2, live.host, "this node", true);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, height }, ...drawn);
  keepPhase(place, svg);
  place.replaceChildren(svg);
}

// A picture that is drawn anew goes on where the one before was.
function keepPhase(place, svg) {
  const before = place.firstElementChild;
  const begun = Number(before?.dataset.begun ?? performance.now());
  svg.dataset.begun = String(begun);
  const elapsed = (performance.now() - begun) / 1000;
  for (const path of svg.querySelectorAll(".busy")) path.style.animationDelay = `${-elapsed}s`;
}

export const LINES = [
  ["clients", "clients", "to clients"],
  ["cache", "cache", "of that, from the cache"],
  ["peers", "peers", "from other nodes"],
  ["origin", "origin", "from registries"],
  ["toPeers", "to-peers", "to other nodes"],
];

export function drawRates(place, history) {
  const width = Math.max(280, place.clientWidth), height = 180, left = 84, bottom = 22, top = 8;
  const most = Math.max(1024, ...LINES.flatMap(([key]) => history[key]));
  let step = 1024;
  while (step * 4 < most) step *= 2;
  const ceiling = Math.ceil(most / step) * step;
  const samples = Math.max(2, Math.round(300000 / (history.everyMillis || 1000)));
  const y = (value) => height - bottom - ((height - bottom - top) * value) / ceiling;
  const x = (at, length) => left + ((width - left - 4) * (samples - length + at)) / (samples - 1);
  const drawn = [];
  for (let value = 0; value <= ceiling; value += step) {
    drawn.push(
      shape("line", { class: "axis", x1: left, x2: width - 4, y1: y(value), y2: y(value) }),
      shape("text", { class: "soft", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, rate(value)),
    );
  }
  for (const [minutes, words] of [[5, "5 min ago"], [2.5, ""], [0, "now"]]) {
    const at = x(samples - 1 - (minutes / 5) * (samples - 1), samples);
    const anchor = minutes === 0 ? "end" : "start";
    drawn.push(shape("text", { class: "soft", x: at, y: height - 5, "text-anchor": anchor }, words));
  }
  for (const [key, name] of LINES) {
    const line = history[key];
    if (line.length < 2) continue;
    const points = line.map((value, at) => `${x(at, line.length).toFixed(1)},${y(value).toFixed(1)}`);
    drawn.push(shape("polyline", { class: `curve ${name}`, points: points.join(" ") }));
  }
  place.replaceChildren(shape("svg", { viewBox: `0 0 ${width} ${height}`, height }, ...drawn));
}
