// The calculator: any batch and length of the study's kinds of jobs, on any card of the catalogue.

const asked = { model: "", method: "", settings: "", card: "", batch: 1, length: 2048 };

function startCalculator() {
  if (!CALC.kinds.length) {
    show("calculator-provenance", "Our formula says nothing of the jobs of this study.");
    return;
  }
  const record = RECORDS.find((one) => one.key === DATA.start.key && one.kind >= 0) ?? RECORDS.find((one) => one.kind >= 0);
  Object.assign(asked, { model: record.model, method: record.method, settings: record.settings,
    batch: record.batch_size, length: record.seq_len });
  asked.card = DATA.start.gpu ?? DATA.sources[record.source].card ?? CALC.cards[0].id;
  show("calculator-provenance", badge("estimated"), ` By our formula, from first principles, and correction factors (${DATA.factors.name}) ${DATA.factors.fitted_on}. `,
    "It is the same as ", make("code", {}, "peakvram estimate"), " says; nothing is run.");
  showCalculator();
}

// Each choice leaves those below it what there is for it.
function showCalculator() {
  const of_model = CALC.kinds.filter((kind) => kind.model === asked.model);
  const methods = unique(of_model.map((kind) => kind.method));
  if (!methods.includes(asked.method)) asked.method = methods[0];
  const settings = unique(of_model.filter((kind) => kind.method === asked.method).map((kind) => kind.settings));
  if (!settings.includes(asked.settings)) asked.settings = settings[0];
  const set = (name) => (value) => { asked[name] = value; showCalculator(); place("calculator-controls").querySelector(`[data-name=${name}]`).focus(); };
  const named = (name, label) => { label.querySelector("select, input").dataset.name = name; return label; };
  const cards = CALC.cards.map((card) => [card.id, `${card.id}, ${gib(card.total_bytes)}`]);
  show("calculator-controls",
    named("model", choice("Model", unique(CALC.kinds.map((kind) => kind.model)), asked.model, set("model"))),
    named("method", choice("Method", methods, asked.method, set("method"))),
    named("settings", choice("Settings", settings, asked.settings, set("settings"))),
    named("card", choice("Card", cards, asked.card, set("card"))),
    numberInput("Batch size", asked.batch, 1, (value) => { asked.batch = value; showAnswer(); }),
    numberInput("Length, tokens", asked.length, 1, (value) => { asked.length = value; showAnswer(); }));
  showAnswer();
}

function showAnswer() {
  const kind = CALC.kinds.findIndex((one) =>
    one.model === asked.model && one.method === asked.method && one.settings === asked.settings);
  const card = CALC.cards.find((one) => one.id === asked.card);
  const said = estimate(kind, card, asked.batch, asked.length);
  if (!said) {
    show("calculator-answer", make("div", { class: "answer no" }, make("div", {}, make("strong", {}, "\u2717 cannot run"),
      make("small", {}, `${asked.model} has positions for ${CALC.kinds[kind].max_length} tokens, not for ${asked.length}`))));
    return;
  }
  const [sign, text] = SAID[said.fits];
  const figure = (name, value) => make("div", {}, make("span", {}, `peak ${name}`),
    make("strong", {}, value ? gib(value.value) : "not known"),
    make("small", {}, value && value.high > value.low ? `90 %: ${gib(value.low)} to ${gib(value.high)}` : ""));
  const terms = Object.entries(said.peak.terms).filter(([, bytes]) => bytes > 0).sort((one, two) => two[1] - one[1]);
  show("calculator-answer",
    make("div", { class: `answer ${said.fits}` },
      make("div", {}, make("span", {}, `on ${card.id}, ${gib(card.total_bytes)}`), make("strong", {}, `${sign} ${text}`), make("small", {}, `${roomText(said.room)}; ${said.reason}`)),
      figure("allocated", said.allocated), figure("reserved", said.reserved), figure("device", said.device)),
    make("details", { open: true }, make("summary", {}, `What is allocated at the peak: ${said.peak.name}`),
      table(`Terms of the formula, corrected, at: ${said.peak.name} (estimated)`, ["term", "GiB", "share", make("span", { class: "left" }, "what it is")],
        terms.map(([term, bytes]) => [term.replaceAll("_", " "), (bytes / GIB).toFixed(3), `${(bytes / said.allocated.value * 100).toFixed(1)} %`,
          make("td", { class: "text wide" }, CALC.explained[CALC.terms.indexOf(term)])]))));
}
