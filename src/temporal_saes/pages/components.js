"use strict";
// What pages are made of: elements, texts with signs for what is not seen, numbers, ranked lists, matrices.
// Texts come in by textContent alone.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

function make(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style") made.style.cssText = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function draw(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Text with signs for what is not seen: line ends, tabs, tokens of nothing but space, controls.
function visible(text) {
  if (text && !text.trim() && !/[^ ]/.test(text)) return "␣".repeat(text.length);
  const shown = text.replace(/\r\n/g, "\n").replace(/\n/g, "↵\n").replace(/\t/g, "⇥\t");
  return shown.replace(UNSEEN, (sign) => (text.length === 1 || !"\u200c\u200d".includes(sign) ? "�" : sign));
}

// The signs that were put in are set apart from what the text says; in one line, if asked for.
function signs(text, oneLine = false) {
  const shown = oneLine ? visible(text).replace(/\n/g, "") : visible(text);
  return shown.split(/([↵⇥␣�]+)/).map((part, i) => (i % 2 ? make("i", null, part) : part));
}

function word(text) {
  return make("code", null, ...signs(text.length > 1 ? text.replace(/^ /, "") : text, true));
}

// Words in a row, each by itself: one that is written from right to left does not turn those beside it.
function inRow(words) {
  return make("span", null, ...words.flatMap((text, i) => [i ? ", " : null, make("bdi", null, visible(text))]));
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(digits - 1);
  return Number(value.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits });
}

function percent(value) {
  return value === null ? "–" : value === 0 ? "0" : `${number(100 * value, 2)} %`;
}

function facts(pairs) {
  return make("dl", null, ...pairs.filter(([, value]) => value).map(([name, value]) =>
    make("div", null, make("dt", null, name), make("dd", null, value))));
}

function badge(split) {
  return split ? make("span", { class: `badge ${split}` }, split) : null;
}

function ranked(pairs, what) {
  const largest = Math.max(...pairs.map(([, value]) => Math.abs(value)), 1e-9);
  return make("ol", { class: "ranked" }, ...pairs.map(([key, value]) => make("li", null,
    make("span", { class: "what" }, ...what(key)),
    make("span", { class: value < 0 ? "bar minus" : "bar", style: `width:${(100 * Math.abs(value) / largest).toFixed(1)}%` }),
    make("span", { class: "value" }, number(value, 2)))));
}

// --- how alike the tokens of a text are ---

// The picture, and a line on the pair that is pointed at. `name(i)` gives the nodes that name a row.
function similarityMatrix(kernel, name) {
  const n = kernel.length;
  const pair = make("p", { class: "quiet", id: "pair" }, "Point at a cell to read the two tokens.");
  const matrix = make("canvas", { class: "matrix", role: "img", width: n || 1, height: n || 1,
    "aria-label": `Similarity of the ${n} rows to each other` });
  paint(matrix, kernel);
  matrix.addEventListener("pointermove", (event) => {
    const box = matrix.getBoundingClientRect();
    const [i, j] = [event.clientY - box.top, event.clientX - box.left].map((x) => Math.min(n - 1, Math.max(0, Math.floor(x / box.width * n))));
    if (n) pair.replaceChildren(...name(i), " and ", ...name(j), `: ${(kernel[i][j] / 100).toFixed(2)}`);
  });
  return [matrix, pair];
}

function paint(canvas, kernel) {
  const n = kernel.length;
  if (!n) return;
  const context = canvas.getContext("2d"), pixels = context.createImageData(n, n);
  kernel.forEach((line, i) => line.forEach((value, j) => {
    const share = Math.abs(value) / 100, ends = value < 0 ? [0, 114, 178] : [213, 94, 0];
    ends.forEach((end, k) => { pixels.data[4 * (i * n + j) + k] = 255 + (end - 255) * share; });
    pixels.data[4 * (i * n + j) + 3] = 255;
  }));
  context.putImageData(pixels, 0, 0);
}
