// Draws everything once, and lets the reader choose light or dark.

function startTheme() {
  const button = place("theme");
  const asks_dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} colours`);
  };
  button.textContent = asks_dark ? "Light" : "Dark";
  button.hidden = false;
  button.addEventListener("click", () => set(button.textContent.toLowerCase()));
}

// For whoever wants to ask the calculator from the browser's console.
window.peakvram = { kinds: CALC.kinds, cards: CALC.cards, estimate };

document.addEventListener("submit", (event) => event.preventDefault());
startTheme();
startMatrix();
startCalculator();
startCloser();
startRecords();
startFormulas();
document.documentElement.dataset.ready = "true";
