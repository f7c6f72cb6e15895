// "Look closer": one model in one batch, by all methods; what is in memory, phase by phase, and how it grows.

const closer = { source: 0, model: "", settings: "", method: "", batch: 1, length: 1, figure: "allocated" };
const COLOURS = ["blue", "orange", "green", "pink", "red", "sky", "dark", "yellow"];
const NAMED = { allocated: "allocated_bytes", reserved: "reserved_bytes", device: "device_bytes" };

function startCloser() {
  const finished = RECORDS.filter((record) => record.is_finished);
  if (!finished.length) {
    show("components-provenance", "No job of this study ran to its end.");
    return;
  }
  chooseRecord(finished.find((record) => record.key === DATA.start.key) ?? finished[0]);
}

function chooseRecord(record) {
  Object.assign(closer, { source: record.source, model: record.model, settings: record.settings, method: record.method,
    batch: record.batch_size, length: record.seq_len });
  showCloser();
}

// Every choice is among the finished records that the choices before it leave.
function showCloser() {
  let left = RECORDS.filter((record) => record.is_finished && record.source === closer.source);
  const among = (name, field) => {
    const values = unique(left.map((record) => record[field])).sort(collator.compare);
    if (!values.includes(closer[name])) closer[name] = values.includes(DATA.start[name]) ? DATA.start[name] : values[0];
    left = left.filter((record) => record[field] === closer[name]);
    return values;
  };
  const choices = [["model", "Model", "model", ""], ["settings", "Settings", "settings", ""],
    ["length", "Length, tokens", "seq_len", "short"], ["batch", "Batch size", "batch_size", "short"], ["method", "Method", "method", "short"]];
  const controls = choices.map(([name, label, field, kind]) => {
    const values = among(name, field);
    return choice(label, values, closer[name], change(name, typeof values[0] === "number"), kind);
  });
  const sources = DATA.sources.map((source, number) => [number, source.provenance]);
  const first = sources.length > 1 ? [choice("Card", sources, closer.source, change("source", true))] : [];
  controls.forEach((label, at) => { label.firstElementChild.dataset.name = choices[at][0]; });
  show("closer-controls", ...first, ...controls,
    choice("Figure", Object.keys(NAMED), closer.figure, change("figure", false), "short"));
  const record = left[0];
  const cell = RECORDS.filter((one) => one.source === closer.source && one.model === closer.model && one.is_finished
    && one.batch_size === closer.batch && one.seq_len === closer.length && one.settings === closer.settings);
  showComponents(cell);
  showPhases(record);
  show("closer-notes", ...record.notes.map((note) => make("li", {}, `note: ${note}`)));
  showGrowth();
}

const change = (name, is_number) => (value) => {
  closer[name] = is_number ? Number(value) : value;
  showCloser();
  place("closer-controls").querySelector(`[data-name=${name}]`)?.focus();
};

const where = (record) => [badge(provenance(record)), ` ${record.model}, ${record.settings}`];
