// Every record in one table, to sort and to filter; some hundred rows at a time, so that a phone keeps up.

const CHUNK = 100;
const listing = { sort: "model", is_down: false, model: "", method: "", outcome: "", text: "", shown: CHUNK };
const RECORD_COLUMNS = [
  ["model", "model", true], ["method", "method", true], ["seq_len", "length", false], ["batch_size", "batch", false],
  ["outcome", "outcome", true], ["allocated_bytes", "allocated, GiB", false], ["reserved_bytes", "reserved, GiB", false],
  ["device_bytes", "device, GiB", false], ["source", "figures are", true], ["settings", "settings", true], ["key", "key", true],
];

function startRecords() {
  const set = (name) => (value) => { Object.assign(listing, { [name]: value, shown: CHUNK }); showRecords(); };
  const options = (name) => [["", "all"], ...unique(RECORDS.map((record) => record[name])).sort(collator.compare)];
  const search = make("input", { type: "search", placeholder: "such as eager, or a key", oninput: (event) => set("text")(event.target.value.toLowerCase()) });
  show("records-controls", choice("Model", options("model"), "", set("model")), choice("Method", options("method"), "", set("method"), "short"),
    choice("Outcome", options("outcome"), "", set("outcome"), "short"), make("label", {}, "Contains", search));
  for (const record of RECORDS) record.text = [record.model, record.method, record.settings, record.outcome, record.message, ...record.notes, record.key].join(" ").toLowerCase();
  showRecords();
}

function showRecords() {
  const found = RECORDS.filter((record) => ["model", "method", "outcome"].every((name) => !listing[name] || record[name] === listing[name])
    && record.text.includes(listing.text)).sort(inOrder);
  show("records-provenance", `${found.length} of ${RECORDS.length} records. `, ...unique(found.map(provenance)).map(badge));
  const rows = found.slice(0, listing.shown).map(recordRow);
  const more = found.length > listing.shown
    ? make("button", { type: "button", onclick: () => { listing.shown += 5 * CHUNK; showRecords(); } }, `Show more: ${listing.shown} of ${found.length} are here`) : null;
  const region = make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "All records" },
    make("table", {}, make("caption", {}, "Peaks over the whole run; of a job that did not finish, up to its end. Headings sort; the key is in the name of a record's file."),
      make("thead", {}, make("tr", {}, RECORD_COLUMNS.map(heading))), make("tbody", {}, rows)));
  place("records-table").replaceChildren(...[region, more].filter(Boolean));
}

function heading([name, text, is_text]) {
  const sorted = listing.sort === name ? (listing.is_down ? "descending" : "ascending") : "none";
  const sort = () => {
    Object.assign(listing, { sort: name, is_down: listing.sort === name && !listing.is_down, shown: CHUNK });
    showRecords();
    place("records-table").querySelector(`[data-sort=${name}]`).focus();
  };
  return make("th", { scope: "col", "aria-sort": sorted, class: is_text ? "text" : "" }, make("button", { type: "button", "data-sort": name, onclick: sort }, text));
}

const USUAL = ["model", "method", "settings", "seq_len", "batch_size", "place"];
const compare = (one, two) => typeof one === "number" ? one - two : collator.compare(one, two);

function inOrder(one, two) {
  const order = compare(one[listing.sort], two[listing.sort]);
  return (listing.is_down ? -order : order) || USUAL.reduce((found, name) => found || compare(one[name], two[name]), 0);
}

const recordRow = (record) => make("tr", { title: [record.message, ...record.notes].filter(Boolean).join("\n") || null }, RECORD_COLUMNS.map(([name, , is_text], number) => {
  const text = name === "source" ? provenance(record)
    : name.endsWith("_bytes") ? (record[name] ? (record[name] / GIB).toFixed(2) : "\u2013") : record[name];
  return number === 0 ? make("th", { scope: "row", class: "text" }, text) : make("td", { class: is_text ? "text" : "" }, text);
}));
