// Formulas beside the records: how far each is off, as its author gives it and once corrected.

function startFormulas() {
  const kinds = unique(DATA.sources.map((source) => source.provenance));
  if (!DATA.errors.length) {
    show("formulas-provenance", "No formula speaks of a finished job of this study.");
    return;
  }
  show("formulas-provenance", "Errors of peak allocated memory, of records that are ", ...kinds.map(badge),
    `. Factors (${DATA.factors.name}): ${DATA.factors.fitted_on}.`);
  chart("formulas-chart", "Median error of every formula, as published and corrected", paintErrors,
    keys([["as published", "orange"], ["corrected", "blue"]]));
  show("formulas-table", asTable(`Absolute errors, and bias: below 0 a formula says too little (${kinds.join(", ")})`,
    ["formula", "what it is", "jobs", "as published: median", "90th", "bias", "corrected: median", "90th", "bias"],
    DATA.errors.map((error) => [error.id, make("td", { class: "text wide", title: error.source }, error.title), error.num_jobs,
      ...cells(error.bare), ...(error.corrected ? cells(error.corrected) : ["\u2013", "\u2013", "\u2013"])])));
  startPoints(kinds);
}

const cells = ([median, p90, , bias]) => [percent(median), percent(p90), (bias > 0 ? "+" : "") + percent(bias)];
const LEAST = 1e-4;
const DECADES = [0.0001, 0.001, 0.01, 0.1, 1, 10];

function paintErrors(width) {
  const [left, above, height] = [Math.min(200, width * 0.42), 24, 24];
  const bottom = above + DATA.errors.length * height;
  const last = DECADES.find((decade) => decade >= Math.max(...DATA.errors.map((error) => error.bare[0])));
  const ticks = DECADES.filter((decade) => decade <= last);
  const x = (share) => left + 10 + Math.log10(Math.max(share, LEAST) / LEAST) / Math.log10(last / LEAST) * (width - left - 30);
  const every = (width - left) / ticks.length < 70 ? 2 : 1;
  const parts = ticks.flatMap((tick, at) => [draw("line", { class: "axis", x1: x(tick), x2: x(tick), y1: above - 4, y2: bottom }),
    at % every ? null : words(x(tick), above - 9, (tick === LEAST ? "\u2264 " : "") + `${Number((tick * 100).toPrecision(3))} %`, { class: "faint", "text-anchor": "middle" })]);
  DATA.errors.forEach((error, number) => {
    const y = above + (number + 0.5) * height;
    parts.push(words(left, y + 4, cut(error.id, left), { "text-anchor": "end" }));
    if (error.corrected) {
      parts.push(draw("line", { class: "axis", x1: x(error.bare[0]), x2: x(error.corrected[0]), y1: y, y2: y }),
        draw("circle", { class: "c-blue point", cx: x(error.corrected[0]), cy: y, r: 6 }, titled(`${error.id}, corrected: median error ${percent(error.corrected[0])}`)));
    }
    parts.push(draw("circle", { class: "c-orange hollow", cx: x(error.bare[0]), cy: y, r: 5 }, titled(`${error.id}, as published: median error ${percent(error.bare[0])}`)));
  });
  return [bottom + 6, parts];
}

function startPoints(kinds) {
  const points = DATA.points.map(([number, bare, fitted]) => ({ record: RECORDS[number], bare, fitted }));
  if (!points.length) return;
  const within = (name, share) => points.filter((point) => Math.abs(point[name] / point.record.allocated_bytes - 1) <= share).length;
  show("points-provenance", badge("estimated"), " against ", ...kinds.map(badge), ` ${points.length} jobs: within 1 % of the record are `,
    `${within("bare", 0.01)} by the bare formula, ${within("fitted", 0.01)} corrected. A point is a job; 0 is the record.`);
  chart("points", "Error of our formula for every record, by peak allocated memory", (width) => paintPoints(width, points),
    keys([["bare formula", "orange"], ["corrected", "blue"]]));
}

function paintPoints(width, points) {
  const [left, above, below, tall] = [52, 12, 40, 220];
  const sizes = points.map((point) => point.record.allocated_bytes / GIB);
  const [least, most] = [Math.log2(Math.min(...sizes)), Math.log2(Math.max(...sizes))];
  const errors = points.flatMap(({ record, bare, fitted }) => [bare, fitted].map((bytes) => bytes / record.allocated_bytes - 1));
  const far = Math.max(0.002, ...errors.map(Math.abs)) * 1.1;
  const x = (gibs) => left + 10 + (most > least ? (Math.log2(gibs) - least) / (most - least) : 0.5) * (width - left - 20);
  const y = (error) => above + tall / 2 - error / far * tall / 2;
  const ticks = steps(far, 3);
  const parts = unique([...ticks, ...ticks.map((tick) => -tick)]).filter((tick) => Math.abs(tick) <= far).flatMap((tick) => [
    draw("line", { class: "axis", x1: left, x2: width, y1: y(tick), y2: y(tick) }),
    words(left - 5, y(tick) + 4, tick ? `${tick > 0 ? "+" : "\u2212"}${percent(Math.abs(tick)).replace(/\.?0+ /, " ")}` : "0", { class: "faint", "text-anchor": "end" })]);
  for (let power = Math.ceil(least); power <= most; power += 1) {
    parts.push(words(x(2 ** power), above + tall + 16, 2 ** power, { class: "faint", "text-anchor": "middle" }));
  }
  parts.push(words((left + width) / 2, above + tall + 34, "recorded peak allocated, GiB", { class: "faint", "text-anchor": "middle" }));
  for (const { record, bare, fitted } of points) {
    for (const [bytes, colour] of [[bare, "orange"], [fitted, "blue"]]) {
      parts.push(draw("circle", { class: `c-${colour} point`, cx: x(record.allocated_bytes / GIB), cy: y(bytes / record.allocated_bytes - 1), r: 3.5 },
        titled(`${record.model} ${record.method}, ${record.batch_size} x ${record.seq_len}`)));
    }
  }
  return [above + tall + below, parts];
}
