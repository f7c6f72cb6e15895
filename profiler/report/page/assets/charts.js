// Charts are drawn as wide as their place is, so that text has one size everywhere, and anew where that changes.

const CHARTS = new Map();
const watcher = new ResizeObserver((entries) => entries.forEach(({ target }) => redraw(target)));

// `paint(width)` gives the height and the parts of a picture; `label` says in words what it shows, where its place
// does not.
function chart(id, label, paint, ...after) {
  const frame = make("div");
  show(id, frame, ...after);
  CHARTS.set(frame, { label, paint, width: 0 });
  redraw(frame);
  watcher.observe(frame);
}

function redraw(frame) {
  const own = CHARTS.get(frame);
  const width = Math.round(frame.clientWidth);
  if (!frame.isConnected) {
    watcher.unobserve(frame);
    CHARTS.delete(frame);
  } else if (width && width !== own.width) {
    own.width = width;
    const [height, ...parts] = own.paint(width);
    const name = own.label ? { role: "img", "aria-label": own.label } : { "aria-hidden": "true" };
    frame.replaceChildren(draw("svg", { viewBox: `0 0 ${width} ${height}`, ...name }, parts));
  }
}

const keys = (pairs) => make("ul", { class: "keys" }, pairs.map(([text, colour]) =>
  make("li", {}, make("span", { class: `swatch c-${colour}` }), text)));
const words = (x, y, text, attributes = {}) => draw("text", { x, y, ...attributes }, text);
const titled = (text) => draw("title", {}, text);

// Round steps of 1, 2 or 5 up to a top that is reached, at most so many of them.
function steps(top, most = 6) {
  const rough = Math.max(top, 1e-9) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  const ticks = [];
  for (let at = 0; at <= top + step * 0.001; at += step) ticks.push(Number(at.toPrecision(6)));
  return ticks;
}

// Text of about this many pixels; no browser need measure it.
const widthOf = (text) => String(text).length * 6.6;

// Cuts a label that is longer than its room.
const cut = (text, room) => widthOf(text) <= room ? text : `${text.slice(0, Math.max(3, Math.floor(room / 6.6) - 1))}\u2026`;
