// What every page has: its data, and how elements and figures are made. Text is always set as text: nothing in the
// data is markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const GIB = 2 ** 30;
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null).map((child) =>
    child instanceof Node ? child : document.createTextNode(String(child))));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const place = (id) => document.getElementById(id);
const show = (id, ...children) => place(id).replaceChildren(...children);
const unique = (values) => [...new Set(values)];

const gib = (bytes) => `${(bytes / GIB).toFixed(2)} GiB`;
const bareGib = (bytes) => (bytes / GIB).toFixed(bytes >= 100 * GIB ? 0 : 1);
const percent = (share) => {
  const size = Math.abs(share) * 100;
  return `${(share * 100).toFixed(size >= 10 ? 0 : size >= 1 ? 1 : size >= 0.1 ? 2 : 3)} %`;
};

const badge = (text) => make("span", { class: "badge" }, text);

// Names with numbers in them sort as people expect: r8 before r16.
const collator = new Intl.Collator("en", { numeric: true });

// A labelled choice; `options` are texts, or [value, text] pairs.
function choice(label, options, value, onchange, kind = "") {
  const pairs = options.map((option) => Array.isArray(option) ? option : [option, option]);
  const select = make("select", { onchange: () => onchange(select.value) },
    pairs.map(([own, text]) => make("option", { value: own, selected: String(own) === String(value) }, text)));
  return make("label", { class: kind }, label, select);
}

function numberInput(label, value, least, oninput) {
  const input = make("input", { type: "number", min: least, step: 1, value, inputmode: "numeric",
    oninput: () => { if (input.value !== "" && input.checkValidity()) oninput(Number(input.value)); } });
  return make("label", { class: "short" }, label, input);
}

// A table in a region that scrolls sideways, by keyboard too. Cells are texts or nodes; `left` columns are set left.
function table(caption, headings, rows, left = 1) {
  const side = (number) => number < left ? "text" : "";
  return make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": caption },
    make("table", {}, make("caption", {}, caption),
      make("thead", {}, make("tr", {}, headings.map((text, number) => make("th", { scope: "col", class: side(number) }, text)))),
      make("tbody", {}, rows.map((cells) => make("tr", {}, cells.map((cell, number) =>
        cell instanceof HTMLTableCellElement ? cell
          : number === 0 ? make("th", { scope: "row", class: side(0) }, cell) : make("td", { class: side(number) }, cell)))))));
}

const asTable = (...given) => make("details", {}, make("summary", {}, "As a table"), table(...given));

// Lets the reader choose light or dark, draws each part of the page once, and says so.
function start(...parts) {
  const button = place("theme");
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} colours`);
  };
  button.textContent = window.matchMedia("(prefers-color-scheme: dark)").matches ? "Light" : "Dark";
  button.hidden = false;
  button.addEventListener("click", () => set(button.textContent.toLowerCase()));
  parts.forEach((part) => part());
  document.documentElement.dataset.ready = "true";
}
