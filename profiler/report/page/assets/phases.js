// A run, phase by phase: allocated memory at the start, at the peak and at the end of each, and reserved memory.

function showPhases(record) {
  if (!record?.phases.length) {
    show("phases-provenance", DATA.without_phases ?? "No phases were recorded for this job.");
    show("phases");
    return;
  }
  show("phases-provenance", ...where(record), `, ${record.method}, batch ${record.batch_size} x ${record.seq_len} tokens. `,
    "Known are a phase's start, peak and end; the straight lines between them are drawn, not recorded.");
  const phases = record.phases.map(([name, step, start, peak, end, reserved]) =>
    ({ name: DATA.texts[name], step, start, peak, end, reserved }));
  chart("phases", `Allocated and reserved memory by phase of ${record.model}, ${record.method}`, (width) => paintPhases(width, phases, record),
    keys([["allocated", "blue"], ["reserved (peak of the phase)", "orange"]]),
    asTable(`Phases in GiB, ${provenance(record)}`, ["phase", "step", "start", "peak", "end", "reserved"], phases.map((phase) =>
      [phase.name, phase.step < 0 ? "" : phase.step, ...[phase.start, phase.peak, phase.end, phase.reserved].map((bytes) => (bytes / GIB).toFixed(3))])));
}

function paintPhases(width, phases, record) {
  const capacity = DATA.sources[record.source].total_bytes / GIB;
  const largest = Math.max(...phases.map((phase) => phase.reserved)) / GIB;
  const has_capacity = capacity < largest * 2;
  const top = (has_capacity ? capacity : largest) * 1.05;
  const [left, above, below, tall] = [38, 28, 84, 220];
  const slot = (width - left - 4) / phases.length;
  const x = (at) => left + at * slot;
  const y = (gibs) => above + tall - gibs / top * tall;
  const parts = steps(top).filter((tick) => tick <= top).flatMap((tick) => [
    draw("line", { class: "axis", x1: left, x2: width, y1: y(tick), y2: y(tick) }),
    words(left - 5, y(tick) + 4, tick, { class: "faint", "text-anchor": "end" })]);
  parts.push(words(left - 5, 12, "GiB", { class: "faint", "text-anchor": "end" }));
  const known = phases.flatMap((phase, at) => [[at, phase.start], [at + 0.5, phase.peak], [at + 1, phase.end]]);
  const allocated = known.map(([at, bytes]) => `${x(at).toFixed(1)},${y(bytes / GIB).toFixed(1)}`).join(" ");
  const reserved = phases.flatMap((phase, at) => [[at, phase.reserved], [at + 1, phase.reserved]])
    .map(([at, bytes]) => `${x(at).toFixed(1)},${y(bytes / GIB).toFixed(1)}`).join(" ");
  parts.push(draw("polygon", { class: "c-blue area", points: `${x(0)},${y(0)} ${allocated} ${x(phases.length)},${y(0)}` }),
    draw("polyline", { class: "c-blue line", points: allocated }), draw("polyline", { class: "c-orange line", points: reserved }));
  if (has_capacity) {
    parts.push(draw("line", { class: "capacity", x1: left, x2: width, y1: y(capacity), y2: y(capacity) }),
      words(width, y(capacity) - 5, `the card: ${capacity.toFixed(2)} GiB`, { class: "faint", "text-anchor": "end" }));
  }
  phases.forEach((phase, at) => {
    const text = phase.name + (phase.step < 0 ? "" : ` ${phase.step}`);
    parts.push(words(x(at + 0.5) + 4, above + tall + 12, text, { "text-anchor": "end", transform: `rotate(-60 ${x(at + 0.5) + 4} ${above + tall + 12})` }),
      draw("circle", { class: "c-blue point", cx: x(at + 0.5), cy: y(phase.peak / GIB), r: 4 }, titled(`${text}: peak ${gib(phase.peak)}`)));
  });
  return [above + tall + below, parts];
}
