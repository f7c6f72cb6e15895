// Our corrected formula, evaluated as `peakvram estimate` does: a term is the largest of polynomials of batch and length.

const CALC = DATA.calculator;
const FIGURES = ["allocated", "reserved", "device"];

function amounts(kind, card, batch, length) {
  const powers = CALC.monomials.map(([of_batch, of_length]) => batch ** of_batch * length ** of_length);
  const section = CALC.kinds[kind].cards[card.alike].find(([first, last]) => first <= length && length <= last);
  const known = new Map();
  const quantity = (number) => {
    if (!known.has(number)) known.set(number, valueOf(CALC.quantities[number], powers));
    return known.get(number);
  };
  return section[2].map(([name, ...pairs]) => {
    const terms = {};
    for (let at = 0; at < pairs.length; at += 2) terms[CALC.terms[pairs[at]]] = quantity(pairs[at + 1]);
    return { name: CALC.instants[name], terms };
  });
}

function valueOf(quantity, powers) {
  if (typeof quantity === "number") return quantity;
  return Math.max(...quantity.map((polynomial) => {
    let sum = 0;
    for (let at = 0; at < polynomial.length; at += 2) sum += polynomial[at + 1] * powers[polynomial[at]];
    return sum;
  }));
}

const sumOf = (terms) => Object.values(terms).reduce((sum, bytes) => sum + bytes, 0);

// The corrected terms at the instant that is the peak, and value, low and high end of each figure; null where not known.
// Nothing of rows that the model has no positions for.
function estimate(kind, card, batch, length) {
  const job = CALC.kinds[kind];
  if (job.max_length !== null && length > job.max_length) return null;
  const bare = amounts(kind, card, batch, length);
  const factors = FIGURES.map((name, at) => job.factors[at] < 0 ? null : CALC.factors[name][job.factors[at]]);
  const instants = bare.map(({ name, terms }) => ({ name, terms: corrected(terms, factors[0] ?? {}) }));
  const peak = instants.reduce((best, one) => sumOf(one.terms) > sumOf(best.terms) ? one : best);
  const gaps = [
    { [CALC.gap.constant]: CALC.gap.constant_bytes, ...largestTerms(bare) },
    card.context_bytes === null ? null : { [CALC.gap.constant]: CALC.gap.constant_bytes, [CALC.gap.context]: card.context_bytes },
  ];
  const bands = [band(sumOf(peak.terms), job.intervals[0], FIGURES[0]), null, null];
  for (const at of [1, 2]) {
    if (bands[at - 1] && factors[at] && gaps[at - 1]) {
      const value = bands[at - 1].value + weighted(gaps[at - 1], factors[at]);
      bands[at] = onTop(band(value, job.intervals[at], FIGURES[at]), bands[at - 1]);
    }
  }
  return { peak, allocated: bands[0], reserved: bands[1], device: bands[2], ...judge(bands, card) };
}

const corrected = (terms, factors) =>
  Object.fromEntries(Object.entries(terms).map(([term, bytes]) => [term, bytes * (factors[term] ?? 1)]));

function largestTerms(instants) {
  const largest = {};
  for (const { terms } of instants) {
    for (const [term, bytes] of Object.entries(terms)) largest[term] = Math.max(largest[term] ?? 0, bytes);
  }
  return largest;
}

const weighted = (features, factors) =>
  Object.entries(features).reduce((sum, [name, bytes]) => sum + bytes * (factors[name] ?? 0), 0);

function band(value, interval, name) {
  if (interval < 0) return { value, low: value, high: value };
  const [low, high] = CALC.intervals[name][interval];
  return { value, low: value * low, high: value * high };
}

// A figure is nowhere below the one that it holds, whose interval was fitted by itself.
const onTop = (own, held) =>
  Object.fromEntries(["value", "low", "high"].map((end) => [end, Math.max(own[end], held[end])]));

// Whether a job fits; "no" only where tensors and CUDA context alone are more than the card has.
function judge([allocated, reserved, device], card) {
  const held = device ?? reserved ?? allocated;
  const room = card.total_bytes - held.value;
  const free = card.total_bytes - held.high;
  const at_high = `at the high end of the interval ${roomText(free)}`;
  if (device === null) return { fits: room >= 0 ? "likely" : "unlikely", room, reason: "the CUDA context comes on top" };
  if (allocated.low + card.context_bytes > card.total_bytes) {
    return { fits: "no", room, reason: "tensors and CUDA context alone are more than the card has" };
  }
  if (free >= 0) return { fits: "yes", room, reason: at_high };
  if (room >= 0) return { fits: "likely", room, reason: at_high };
  return { fits: "unlikely", room, reason: "unless the allocator can do with less than it would keep" };
}

const roomText = (room) => room >= 0 ? `${sizeText(room)} free` : `${sizeText(-room)} too much`;

// As `peakvram estimate` writes a size.
function sizeText(bytes) {
  const units = [["TiB", 2 ** 40], ["GiB", GIB], ["MiB", 2 ** 20], ["KiB", 2 ** 10]];
  const [unit, factor] = units.find(([, one]) => bytes * 204_800 >= one * 204_799) ?? ["B", 1];
  return `${(bytes / factor).toFixed(factor > 1 ? 2 : 0)} ${unit}`;
}

const SAID = {
  yes: ["\u2713", "fits"], likely: ["\u2713?", "likely fits"],
  unlikely: ["\u2717?", "unlikely to fit"], no: ["\u2717", "does not fit"],
};
