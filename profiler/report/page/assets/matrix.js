// "Does it fit?": models and methods against lengths and batches, for the study's own card or any of the catalogue.

const matrix = { grid: 0, card: "" };

function startMatrix() {
  if (!DATA.grids.length) {
    show("fits-provenance", "No two jobs of this study stand in one table: see all records below.");
    return;
  }
  matrix.card = DATA.start.gpu ?? "";
  const grids = DATA.grids.map((grid, number) => [number, gridLabel(grid)]);
  const cards = CALC.cards.map((card) => [card.id, `${card.id}, ${gib(card.total_bytes)}: by formula`]);
  show("fits-controls",
    choice("Card", [["", "the study's own: records"], ...cards], matrix.card, (value) => { matrix.card = value; showMatrix(); }),
    choice("Jobs", grids, 0, (value) => { matrix.grid = Number(value); showMatrix(); }));
  show("fits-legend", ...Object.entries(SAID).map(([kind, [sign, text]]) => make("span", {}, make("span", { class: `key ${kind}` }, sign), `${text} `)),
    "\u00b7 a number is peak device memory in GiB \u00b7 OOM*: inferred, not run \u00b7 \u2013: not in the study");
  showMatrix();
}

const gridLabel = (grid) => (DATA.sources.length > 1 ? `${DATA.sources[grid.source].provenance}: ` : "") + grid.settings;

function showMatrix() {
  const grid = DATA.grids[matrix.grid];
  const card = CALC.cards.find((one) => one.id === matrix.card);
  const source = DATA.sources[grid.source];
  show("fits-provenance", ...(card
    ? [badge(`estimated for ${card.id}`), ` By our corrected formula (factors ${DATA.factors.fitted_on}); nothing was run on this card.`]
    : [badge(source.provenance), ` Records of ${source.name}.`]));
  show("fits-table", make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Does it fit? Models and methods by length and batch" },
    make("table", { class: "matrix" }, matrixHead(grid), make("tbody", {}, grid.rows.map((row, at) => {
      const [model, method, kind, cells] = row;
      const isFirst = at === 0 || grid.rows[at - 1][0] !== model;
      return make("tr", { class: isFirst ? "group" : "" }, make("th", { scope: "row", class: "text first" }, `${model} ${method}`),
        grid.columns.map(([length, batch], number) => card ? estimatedCell(kind, card, batch, length) : recordedCell(cells[number])));
    })))));
}

function matrixHead(grid) {
  const lengths = unique(grid.columns.map(([length]) => length));
  return make("thead", {},
    make("tr", {}, make("th", { class: "text first", scope: "col", rowspan: 2 }, "model, method"),
      lengths.map((length) => make("th", { scope: "colgroup", colspan: grid.columns.filter(([own]) => own === length).length, class: "text" }, `${length} tokens, batch`))),
    make("tr", {}, grid.columns.map(([, batch]) => make("th", { scope: "col" }, batch))));
}

function recordedCell(number) {
  if (number < 0) return make("td", {}, "\u2013");
  const record = RECORDS[number];
  const title = `${record.model} ${record.method}, ${record.seq_len} x ${record.batch_size}: ${provenance(record)}. ${record.message}`;
  if (!record.is_finished) {
    const text = record.outcome === "OOM" ? "OOM" : record.outcome === "OOM (inferred)" ? "OOM*" : record.outcome;
    return make("td", { class: record.outcome.startsWith("OOM") ? "no" : "", title }, `\u2717 ${text}`);
  }
  const held = record.device_bytes || record.reserved_bytes;
  return make("td", { class: record.fits ? "yes" : "no", title }, `${record.fits ? "\u2713" : "\u2717"} ${bareGib(held)}`);
}

function estimatedCell(kind, card, batch, length) {
  if (kind < 0) return make("td", { title: "the formula says nothing of this kind of job" }, "\u2013");
  const said = estimate(kind, card, batch, length);
  if (!said) return make("td", { title: "the model has no positions for so many tokens" }, "\u2013");
  const held = said.device ?? said.reserved ?? said.allocated;
  const [sign, text] = SAID[said.fits];
  return make("td", { class: said.fits, title: `${text}: ${gib(held.value)}, 90 % interval ${gib(held.low)} to ${gib(held.high)}` },
    `${sign} ${bareGib(held.value)}`);
}
