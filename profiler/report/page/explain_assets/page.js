"use strict";
(() => {
// Memory over time, drawn from the data in the page. Text is always set as text: nothing from a run is markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const GIB = 2 ** 30;
const MIB = 2 ** 20;
const chart = document.getElementById("chart");
const told = document.getElementById("told");
// An instant is [event, is_alloc, size, owner, line, bytes of each part ...].
const [EVENT, IS_ALLOC, SIZE, OWNER, LINE, FIRST] = [0, 1, 2, 3, 4, 5];

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const bytes = (n) => n >= GIB ? `${(n / GIB).toFixed(2)} GiB` : n >= MIB ? `${(n / MIB).toFixed(2)} MiB` : n >= 1024 ? `${(n / 1024).toFixed(1)} KiB` : `${n} B`;
const totalOf = (instant) => instant.slice(FIRST).reduce((sum, n) => sum + n, 0);

// Round distances between the lines of an axis.
function tick(top, most) {
  for (let step = 0.0001; ; step *= 10) for (const times of [1, 2, 5]) if (top / (step * times) <= most) return step * times;
}

let view = DATA.windows[0];
let scale = null;
let at = 0;

function render() {
  const wide = Math.max(320, Math.round(chart.clientWidth));
  const [left, right, above, tall, below] = [46, 8, 22, wide < 600 ? 240 : 320, 40];
  const instants = view.instants;
  const [first, last] = [view.start, Math.max(view.end, view.start + 1)];
  const top = Math.max(...instants.map(totalOf)) * 1.06;
  const x = (event) => left + (event - first) / (last - first) * (wide - left - right);
  const y = (n) => above + tall - n / top * tall;
  scale = { x, y, wide, left, above, tall };
  const svg = draw("svg", { viewBox: `0 0 ${wide} ${above + tall + below}`, "aria-hidden": "true" });
  const step = tick(top / GIB, 9);
  for (let n = 0; n * GIB <= top; n += step) {
    svg.append(draw("line", { class: "axis", x1: left, x2: wide - right, y1: y(n * GIB), y2: y(n * GIB) }),
      draw("text", { class: "faint", x: left - 6, y: y(n * GIB) + 4, "text-anchor": "end" }, String(Number(n.toPrecision(6)))));
  }
  svg.append(draw("text", { class: "faint", x: left - 6, y: 12, "text-anchor": "end" }, "GiB"));
  spans(svg, wide, right);
  areas(svg, instants, x, y, [left, wide - right]);
  moment(svg, wide);
  svg.append(draw("line", { id: "cursor", class: "cursor", y1: above, y2: above + tall, x1: -9, x2: -9 }));
  chart.replaceChildren(svg);
  point(at);
}

// The highest instant of each pixel; where none falls on it, memory is as it was.
function columns(instants, x, from, to) {
  const found = [];
  let [place, before] = [0, instants[0]];
  for (let column = from; column < to; column += 1) {
    let highest = null;
    for (; place < instants.length && x(instants[place][EVENT]) < column + 1; place += 1) {
      before = instants[place];
      if (highest === null || totalOf(before) > totalOf(highest)) highest = before;
    }
    found.push(highest ?? before);
  }
  return found;
}

// Each component on those before it.
function areas(svg, instants, x, y, [from, to]) {
  const shown = columns(instants, x, from, to);
  let under = shown.map(() => 0);
  DATA.parts.forEach(([, colour], number) => {
    const over = shown.map((instant, place) => under[place] + instant[FIRST + number]);
    if (over.some((n, place) => n > under[place])) {
      const edge = (heights) => heights.flatMap((n, place) => {
        const isSame = place > 0 && place + 1 < heights.length && heights[place - 1] === n && heights[place + 1] === n;
        return isSame ? [] : [`${from + place},${y(n).toFixed(1)}`, `${from + place + 1},${y(n).toFixed(1)}`];
      });
      svg.append(draw("polygon", { class: `c-${colour}`, points: [...edge(over), ...edge(under).reverse()].join(" ") }));
    }
    under = over;
  });
}

// A line at each phase's start; names where there is room, steps under them.
function spans(svg, wide, right) {
  const { x, above, tall, left } = scale;
  const base = above + tall;
  const shown = DATA.spans.filter((span) => span.end > view.start && span.start < view.end);
  let free = 0;
  shown.forEach((span, place) => {
    const from = Math.max(x(span.start), left);
    const to = Math.min(x(span.end), wide - right);
    svg.append(draw("line", { class: "axis", x1: from, x2: from, y1: above, y2: base + 8 }));
    if (to - from > span.phase.length * 6.2 + 6) {
      svg.append(draw("text", { class: "faint", x: from + 4, y: base + 16 }, span.phase));
    }
    if (span.step !== null && (place === 0 || shown[place - 1].step !== span.step) && from > free) {
      const text = `step ${span.step}`;
      svg.append(draw("line", { class: "axis", x1: from, x2: from, y1: above, y2: base + 34 }), draw("text", { x: from + 4, y: base + 32 }, text));
      free = from + text.length * 7;
    }
  });
}

function moment(svg, wide) {
  if (DATA.moment < view.start || DATA.moment >= view.end) return;
  const { x, y, above, tall } = scale;
  const place = view.instants.findIndex((instant) => instant[EVENT] === DATA.moment);
  const [across, label] = [x(DATA.moment), DATA.is_failure ? "out of memory" : "peak"];
  const is_right = across > wide - 110;
  svg.append(draw("line", { class: "moment", x1: across, x2: across, y1: above - 6, y2: y(DATA.moment_bytes) }),
    draw("text", { x: across + (is_right ? -6 : 6), y: above - 8, "text-anchor": is_right ? "end" : "start" }, `${label}: ${bytes(DATA.moment_bytes)}`));
  if (place >= 0) svg.append(draw("circle", { class: "dot", cx: across, cy: y(totalOf(view.instants[place])), r: 4 }));
}

// Tells of one instant, and sets the cursor on it.
function point(place) {
  at = Math.min(Math.max(place, 0), view.instants.length - 1);
  const instant = view.instants[at];
  const cursor = document.getElementById("cursor");
  cursor.setAttribute("x1", scale.x(instant[EVENT]));
  cursor.setAttribute("x2", scale.x(instant[EVENT]));
  const span = DATA.spans.find((one) => instant[EVENT] >= one.start && instant[EVENT] < one.end);
  const [part, name] = instant[OWNER] < 0 ? ["", ""] : DATA.owners[instant[OWNER]];
  const did = instant[OWNER] < 0 ? `a request for ${bytes(instant[SIZE])} failed`
    : `${bytes(instant[SIZE])} ${instant[IS_ALLOC] ? "allocated" : "let go"}: ${part}${name === part ? "" : `, ${name}`}`;
  const keys = DATA.parts.map(([label, colour], number) => [label, colour, instant[FIRST + number]]).filter(([, , n]) => n > 0)
    .sort((one, two) => two[2] - one[2])
    .map(([label, colour, n]) => make("li", {}, make("span", { class: `swatch c-${colour}` }), `${label} ${bytes(n)}`));
  told.replaceChildren(
    make("p", {}, make("strong", {}, `${bytes(totalOf(instant))} allocated`), ` (${DATA.kind}), ${span.label}, event ${instant[EVENT].toLocaleString("en")}`),
    make("p", {}, did), make("p", { class: "code" }, DATA.lines[instant[LINE]]), make("ul", { class: "keys" }, ...keys));
}

function nearest(clientX) {
  const box = chart.getBoundingClientRect();
  const across = (clientX - box.left) / box.width * scale.wide;
  let [low, high] = [0, view.instants.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (scale.x(view.instants[middle][EVENT]) <= across) low = middle; else high = middle - 1;
  }
  return low;
}

function choose(number) {
  view = DATA.windows[number];
  document.querySelectorAll("#windows button").forEach((button, place) => button.setAttribute("aria-pressed", String(place === number)));
  at = Math.max(0, view.instants.findIndex((instant) => instant[EVENT] === DATA.moment));
  render();
}

chart.addEventListener("pointermove", (event) => point(nearest(event.clientX)));
chart.addEventListener("pointerdown", (event) => point(nearest(event.clientX)));
chart.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 25, PageDown: at + 25, Home: 0, End: view.instants.length - 1 };
  if (!(event.key in moves)) return;
  event.preventDefault();
  point(moves[event.key]);
});
DATA.windows.forEach((one, number) => {
  const button = make("button", { type: "button" }, one.name);
  button.addEventListener("click", () => choose(number));
  document.getElementById("windows").append(button);
});
window.addEventListener("resize", render);

const theme = document.getElementById("theme");
const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.hidden = false;
theme.addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; label(); });
label();
choose(0);
})();
