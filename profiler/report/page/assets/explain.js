// Memory over time, to be walked along by pointer and by keyboard.

const MIB = 2 ** 20;
const KIB = 2 ** 10;
// An instant is [event, is_alloc, size, owner, line, bytes of each part ...].
const [EVENT, IS_ALLOC, SIZE, OWNER, LINE, FIRST] = [0, 1, 2, 3, 4, 5];
// What is shown, the instant that is told of, and where things are in the picture.
const shown = { timeline: DATA.windows[0], at: 0, scale: null };

const inUnits = (bytes) => bytes >= GIB ? `${(bytes / GIB).toFixed(2)} GiB` : bytes >= MIB ? `${(bytes / MIB).toFixed(2)} MiB`
  : bytes >= KIB ? `${(bytes / KIB).toFixed(1)} KiB` : `${bytes} B`;
const totalOf = (instant) => instant.slice(FIRST).reduce((sum, bytes) => sum + bytes, 0);

function startTimeline() {
  const picture = place("chart");
  for (const name of ["pointermove", "pointerdown"]) picture.addEventListener(name, (event) => tell(nearest(event.clientX)));
  picture.addEventListener("keydown", (event) => {
    const { at, timeline } = shown;
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 25, PageDown: at + 25, Home: 0, End: timeline.instants.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    tell(moves[event.key]);
  });
  show("windows", ...DATA.windows.map((timeline) => make("button", { type: "button", onclick: () => choose(timeline) }, timeline.name)));
  choose(DATA.windows[0]);
}

function choose(timeline) {
  [...place("windows").children].forEach((button, number) => button.setAttribute("aria-pressed", String(DATA.windows[number] === timeline)));
  shown.timeline = timeline;
  shown.at = Math.max(0, timeline.instants.findIndex((instant) => instant[EVENT] === DATA.moment));
  chart("chart", "", paintTimeline);
  tell(shown.at);
}

function paintTimeline(width) {
  const { instants, start: first, end } = shown.timeline;
  const [left, right, above, tall, below] = [46, 8, 22, width < 600 ? 240 : 320, 40];
  const last = Math.max(end, first + 1);
  const top = Math.max(...instants.map(totalOf)) * 1.06;
  const x = (event) => left + (event - first) / (last - first) * (width - left - right);
  const y = (bytes) => above + tall - bytes / top * tall;
  const cursor = draw("line", { class: "cursor", y1: above, y2: above + tall, x1: x(instants[shown.at][EVENT]), x2: x(instants[shown.at][EVENT]) });
  shown.scale = { x, y, width, left, right, above, tall, cursor };
  const lines = steps(top / GIB, 9).filter((tick) => tick * GIB <= top).flatMap((tick) => [
    draw("line", { class: "axis", x1: left, x2: width - right, y1: y(tick * GIB), y2: y(tick * GIB) }),
    words(left - 6, y(tick * GIB) + 4, tick, { class: "faint", "text-anchor": "end" })]);
  return [above + tall + below, lines, words(left - 6, 12, "GiB", { class: "faint", "text-anchor": "end" }), phaseMarks(), areas(), moment(), cursor];
}

// The highest instant of each pixel; where none falls on it, memory is as it was.
function columns(from, to) {
  const { timeline: { instants }, scale: { x } } = shown;
  const highest_of = [];
  let [number, before] = [0, instants[0]];
  for (let column = from; column < to; column += 1) {
    let highest = null;
    for (; number < instants.length && x(instants[number][EVENT]) < column + 1; number += 1) {
      before = instants[number];
      if (highest === null || totalOf(before) > totalOf(highest)) highest = before;
    }
    highest_of.push(highest ?? before);
  }
  return highest_of;
}

// Each component on those before it.
function areas() {
  const { y, left, right, width } = shown.scale;
  const highest_of = columns(left, width - right);
  let under = highest_of.map(() => 0);
  return DATA.parts.map(([, colour], part) => {
    const [below, over] = [under, highest_of.map((instant, column) => under[column] + instant[FIRST + part])];
    under = over;
    const edge = (heights) => heights.flatMap((bytes, column) => {
      const isSame = column > 0 && column + 1 < heights.length && heights[column - 1] === bytes && heights[column + 1] === bytes;
      return isSame ? [] : [`${left + column},${y(bytes).toFixed(1)}`, `${left + column + 1},${y(bytes).toFixed(1)}`];
    });
    return over.some((bytes, column) => bytes > below[column])
      ? draw("polygon", { class: `c-${colour} solid`, points: [...edge(over), ...edge(below).reverse()].join(" ") }) : null;
  });
}

// A line at each phase's start; names where there is room, steps under them.
function phaseMarks() {
  const { timeline, scale: { x, above, tall, left, right, width } } = shown;
  const base = above + tall;
  const spans = DATA.spans.filter((span) => span.end > timeline.start && span.start < timeline.end);
  let free = 0;
  return spans.map((span, number) => {
    const [from, to] = [Math.max(x(span.start), left), Math.min(x(span.end), width - right)];
    const marks = [draw("line", { class: "axis", x1: from, x2: from, y1: above, y2: base + 8 })];
    if (to - from > span.phase.length * 6.2 + 6) marks.push(words(from + 4, base + 16, span.phase, { class: "faint" }));
    if (span.step !== null && (number === 0 || spans[number - 1].step !== span.step) && from > free) {
      const text = `step ${span.step}`;
      marks.push(draw("line", { class: "axis", x1: from, x2: from, y1: above, y2: base + 34 }), words(from + 4, base + 32, text));
      free = from + text.length * 7;
    }
    return marks;
  });
}

function moment() {
  const { timeline, scale: { x, y, above, width } } = shown;
  if (DATA.moment < timeline.start || DATA.moment >= timeline.end) return null;
  const instant = timeline.instants.find((own) => own[EVENT] === DATA.moment);
  const [across, label] = [x(DATA.moment), DATA.is_failure ? "out of memory" : "peak"];
  const is_right = across > width - 110;
  return [draw("line", { class: "moment", x1: across, x2: across, y1: above - 6, y2: y(DATA.moment_bytes) }),
    words(across + (is_right ? -6 : 6), above - 8, `${label}: ${inUnits(DATA.moment_bytes)}`, { "text-anchor": is_right ? "end" : "start" }),
    instant ? draw("circle", { class: "dot", cx: across, cy: y(totalOf(instant)), r: 4 }) : null];
}

// Tells of one instant, and sets the cursor on it.
function tell(number) {
  const { timeline: { instants }, scale } = shown;
  shown.at = Math.min(Math.max(number, 0), instants.length - 1);
  const instant = instants[shown.at];
  for (const end of ["x1", "x2"]) scale?.cursor.setAttribute(end, scale.x(instant[EVENT]));
  const span = DATA.spans.find((own) => instant[EVENT] >= own.start && instant[EVENT] < own.end);
  const [part, name] = instant[OWNER] < 0 ? ["", ""] : DATA.owners[instant[OWNER]];
  const did = instant[OWNER] < 0 ? `a request for ${inUnits(instant[SIZE])} failed`
    : `${inUnits(instant[SIZE])} ${instant[IS_ALLOC] ? "allocated" : "let go"}: ${part}${name === part ? "" : `, ${name}`}`;
  const held = DATA.parts.map(([label, colour], at) => [label, colour, instant[FIRST + at]]).filter(([, , bytes]) => bytes > 0)
    .sort((one, two) => two[2] - one[2]);
  show("told",
    make("p", {}, make("strong", {}, `${inUnits(totalOf(instant))} allocated`), ` (${DATA.kind}), ${span.label}, event ${instant[EVENT].toLocaleString("en")}`),
    make("p", {}, did), make("p", { class: "code" }, DATA.lines[instant[LINE]]),
    keys(held.map(([label, colour, bytes]) => [`${label} ${inUnits(bytes)}`, colour])));
}

function nearest(across_px) {
  const { timeline: { instants }, scale } = shown;
  const box = place("chart").getBoundingClientRect();
  const across = (across_px - box.left) / box.width * scale.width;
  let [low, high] = [0, instants.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (scale.x(instants[middle][EVENT]) <= across) low = middle; else high = middle - 1;
  }
  return low;
}

start(startTimeline);
