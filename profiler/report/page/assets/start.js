// Draws the page of a study.

// For whoever wants to ask the calculator from the browser's console.
window.peakvram = { kinds: CALC.kinds, cards: CALC.cards, estimate };

document.addEventListener("submit", (event) => event.preventDefault());
start(startMatrix, startCalculator, startCloser, startRecords, startFormulas);
