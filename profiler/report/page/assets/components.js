// What is in memory at the peak: the components that were counted, and what is on top of them.

// Name, colour and bytes of every part of a record's device memory, from the bottom up.
const partsOf = (record) => DATA.parts.map(([name, colour], at) => [name, colour, record.parts[at + 1]]).filter(([, , bytes]) => bytes > 0);

function showComponents(records) {
  const known = records.filter((record) => record.parts.length);
  if (!known.length) {
    show("components-provenance", "No components were counted for these jobs.");
    show("components");
    return;
  }
  const when = unique(known.map((record) => DATA.texts[record.parts[0]])).join(" or ");
  show("components-provenance", ...where(known[0]), `, batch ${known[0].batch_size} x ${known[0].seq_len} tokens. `,
    `Tensors were counted at the end of ${when}; \u201cmore at the peak\u201d is what the largest moment of the run held on top, net.`);
  const bars = known.map((record) => [record, partsOf(record)]).sort((one, two) => collator.compare(one[0].method, two[0].method));
  const names = unique(bars.flatMap(([, parts]) => parts.map(([name]) => name)));
  chart("components", `Stacked bars of device memory by component, one a method of ${known[0].model}`, (width) => paintBars(width, bars),
    keys(DATA.parts.filter(([name]) => names.includes(name))),
    asTable(`Components in GiB, ${provenance(known[0])}`, ["method", ...names, "device"], bars.map(([record, parts]) =>
      [record.method, ...names.map((name) => ((parts.find(([own]) => own === name)?.[2] ?? 0) / GIB).toFixed(3)), (record.device_bytes / GIB).toFixed(3)])));
}

function paintBars(width, bars) {
  const capacity = DATA.sources[bars[0][0].source].total_bytes / GIB;
  const largest = Math.max(...bars.map(([, parts]) => parts.reduce((sum, [, , bytes]) => sum + bytes, 0))) / GIB;
  const has_capacity = capacity < largest * 3;
  const top = has_capacity ? Math.max(capacity * 1.02, largest) : largest;
  const [height, right, above] = [36, 8, 20];
  const bottom = above + bars.length * height;
  const across = (gibs) => gibs / top * (width - right);
  const parts = steps(top, width < 500 ? 4 : 8).flatMap((tick) => [
    draw("line", { class: "axis", x1: across(tick), x2: across(tick), y1: above, y2: bottom }),
    words(across(tick), bottom + 15, tick ? `${tick}` : "0 GiB", { class: "faint", "text-anchor": tick ? "middle" : "start" })]);
  bars.forEach(([record, own], number) => {
    let at = 0;
    const y = above + number * height;
    const total = own.reduce((sum, [, , bytes]) => sum + bytes, 0);
    parts.push(words(0, y + 11, `${cut(record.method, width - 80)}: ${gib(total)}`));
    for (const [name, colour, bytes] of own) {
      const size = across(bytes / GIB);
      parts.push(draw("rect", { class: `c-${colour} segment`, x: at, y: y + 15, width: size, height: 17 }, titled(`${name}: ${gib(bytes)}`)));
      at += size;
    }
  });
  if (has_capacity) {
    parts.push(draw("line", { class: "capacity", x1: across(capacity), x2: across(capacity), y1: above - 4, y2: bottom }),
      words(across(capacity), above - 8, `the card: ${capacity.toFixed(2)} GiB`, { class: "faint", "text-anchor": "end" }));
  }
  return [bottom + 20, parts];
}
