// How memory grows with length and with batch: records as points, the corrected formula as lines.

function showGrowth() {
  const alike = RECORDS.filter((record) => record.source === closer.source && record.model === closer.model
    && record.settings === closer.settings && record.is_finished);
  const methods = methodsToShow(alike);
  const source = DATA.sources[closer.source];
  show("growth-provenance", badge(source.provenance), ` Points are records; lines are `, badge("estimated"),
    " by our corrected formula. Peak ", closer.figure, " memory.");
  const lines = methods.map((method, number) => ({ method, colour: COLOURS[number], kind: alike.find((one) => one.method === method).kind }));
  growthChart("growth-length", "seq_len", `length in tokens, batch ${closer.batch}`, lines,
    alike.filter((record) => record.batch_size === closer.batch), (length) => [closer.batch, length]);
  growthChart("growth-batch", "batch_size", `batch size, ${closer.length} tokens`, lines,
    alike.filter((record) => record.seq_len === closer.length), (batch) => [batch, closer.length]);
}

// The method that was chosen, and those with several records; as many as there are colours that differ well.
function methodsToShow(records) {
  const count = (method) => records.filter((record) => record.method === method).length;
  const several = unique(records.map((record) => record.method)).filter((method) => count(method) > 1 && method !== closer.method);
  return [closer.method, ...several.sort((one, two) => count(two) - count(one)).slice(0, 5)].sort(collator.compare);
}

function growthChart(id, field, label, lines, records, shapeAt) {
  const source = DATA.sources[closer.source];
  const card = CALC.cards.find((one) => one.id === source.card) ?? { ...source, alike: 0 };
  const on_axis = unique([...records.map((record) => record[field]), ...RECORDS.filter((one) =>
    one.source === closer.source && one.model === closer.model && one.settings === closer.settings
    && one[field === "seq_len" ? "batch_size" : "seq_len"] === closer[field === "seq_len" ? "batch" : "length"]).map((one) => one[field])])
    .sort((one, two) => one - two);
  const points = records.filter((record) => record[NAMED[closer.figure]] > 0 && lines.some((line) => line.method === record.method));
  const curves = lines.filter((line) => line.kind >= 0).map((line) => ({ ...line, values: on_axis.map((at) =>
    estimate(line.kind, card, ...shapeAt(at))?.[closer.figure]?.value ?? null) }));
  chart(id, `Peak ${closer.figure} memory of ${closer.model} by ${label}`, (width) => paintGrowth(width, { field, label, on_axis, points, curves, lines, source }),
    keys(lines.map((line) => [line.method, line.colour])),
    asTable(`Peak ${closer.figure} by ${label}, GiB: ${source.provenance}`, ["method", ...on_axis], lines.map((line) =>
      [line.method, ...on_axis.map((at) => {
        const record = points.find((one) => one.method === line.method && one[field] === at);
        return record ? (record[NAMED[closer.figure]] / GIB).toFixed(2) : "\u2013";
      })])));
}

function paintGrowth(width, { field, label, on_axis, points, curves, lines, source }) {
  const capacity = source.total_bytes / GIB;
  const values = [...points.map((record) => record[NAMED[closer.figure]]), ...curves.flatMap((curve) => curve.values)].map((bytes) => bytes / GIB);
  const top = Math.min(Math.max(...values, 0.1), capacity * 1.6) * 1.05;
  const [left, above, below, tall] = [38, 28, 40, 230];
  const [first, last] = [on_axis[0], on_axis[on_axis.length - 1]].map(Math.log2);
  const x = (at) => left + 14 + (last > first ? (Math.log2(at) - first) / (last - first) : 0.5) * (width - left - 28);
  const y = (gibs) => above + tall - gibs / top * tall;
  const parts = steps(top).filter((tick) => tick <= top).flatMap((tick) => [
    draw("line", { class: "axis", x1: left, x2: width, y1: y(tick), y2: y(tick) }),
    words(left - 5, y(tick) + 4, tick, { class: "faint", "text-anchor": "end" })]);
  parts.push(words(left - 5, 12, "GiB", { class: "faint", "text-anchor": "end" }), words((left + width) / 2, above + tall + 34, label, { class: "faint", "text-anchor": "middle" }));
  for (const at of on_axis) parts.push(words(x(at), above + tall + 16, at, { class: "faint", "text-anchor": "middle" }));
  for (const curve of curves) {
    const inside = curve.values.map((bytes, number) => [on_axis[number], bytes]).filter(([, bytes]) => bytes !== null && bytes / GIB <= top);
    parts.push(draw("polyline", { class: `c-${curve.colour} line`, points: inside.map(([at, bytes]) => `${x(at)},${y(bytes / GIB)}`).join(" ") }));
  }
  if (capacity < top) {
    parts.push(draw("line", { class: "capacity", x1: left, x2: width, y1: y(capacity), y2: y(capacity) }),
      words(left + 4, y(capacity) - 5, `the card: ${capacity.toFixed(2)} GiB`, { class: "faint" }));
  }
  for (const record of points) {
    const { colour } = lines.find((line) => line.method === record.method);
    const bytes = record[NAMED[closer.figure]];
    parts.push(draw("circle", { class: `c-${colour} point`, cx: x(record[field]), cy: y(bytes / GIB), r: 5 }, titled(`${record.method}: ${gib(bytes)}, ${provenance(record)}`)));
  }
  return [above + tall + below, parts];
}
