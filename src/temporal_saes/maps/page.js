"use strict";
// Draws the maps of a page and says what is under the pointer. Texts come in by textContent alone.
const data = JSON.parse(document.getElementById("points").textContent);
const legend = document.getElementById("legend");
const reading = document.getElementById("token");
const radios = [...document.querySelectorAll("input[name=colouring]")];
const RADIUS = 2.6;
const MARGIN = 14;
const REACH = 16; // pixels from the pointer to a token
let colouring = data.colourings[0];
let alone = null; // the class that was pressed in the legend
let pointed = null; // the token under the pointer

const maps = data.maps.map((map, i) => {
  const canvas = document.getElementById("map" + i);
  const place = new Map(map.tokens.map((token, row) => [token, row]));
  const bounds = [map.x, map.y].map((values) => [Math.min(...values), Math.max(...values)]);
  return { ...map, canvas, place, bounds };
});

function make(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function pixels(map, row) {
  // one scale for both axes: stretching one would bend distances
  const [[left, right], [low, high]] = map.bounds;
  const width = map.canvas.clientWidth, height = map.canvas.clientHeight;
  const scale = (Math.min(width, height) - 2 * MARGIN) / (Math.max(right - left, high - low) || 1);
  return [
    width / 2 + (map.x[row] - (left + right) / 2) * scale,
    height / 2 - (map.y[row] - (low + high) / 2) * scale,
  ];
}

function mark(context, shape, x, y, radius) {
  context.beginPath();
  if (shape === "triangle") {
    const r = radius * 1.3;
    context.moveTo(x, y - r);
    context.lineTo(x + r * 0.87, y + r / 2);
    context.lineTo(x - r * 0.87, y + r / 2);
    context.closePath();
  } else {
    context.arc(x, y, radius, 0, 2 * Math.PI);
  }
  context.fill();
}

function draw(map) {
  const ratio = window.devicePixelRatio || 1;
  const width = map.canvas.clientWidth, height = map.canvas.clientHeight;
  map.canvas.width = Math.round(width * ratio);
  map.canvas.height = Math.round(height * ratio);
  const context = map.canvas.getContext("2d");
  context.scale(ratio, ratio);
  const same = pointed === null ? -1 : colouring.of_tokens[pointed];
  // grey first, then colours, then the class of the token under the pointer
  const layers = [[], [], []];
  map.tokens.forEach((token, row) => {
    const code = colouring.of_tokens[token];
    const coloured = code >= 0 && colouring.classes[code].coloured;
    layers[same >= 0 && code === same ? 2 : Number(coloured)].push([row, code]);
  });
  layers.forEach((layer, depth) => {
    for (const [row, code] of layer) {
      const style = code >= 0 ? colouring.classes[code] : { colour: "#B5B5BB", shape: "circle" };
      context.fillStyle = depth === 2 && !style.coloured ? "#44444c" : style.colour;
      context.globalAlpha = alone !== null && code !== alone ? 0.1 : depth === 0 ? 0.6 : 0.9;
      mark(context, style.shape, ...pixels(map, row), depth === 2 ? RADIUS * 1.6 : RADIUS);
    }
  });
  context.globalAlpha = 1;
  if (pointed !== null && map.place.has(pointed)) {
    context.strokeStyle = "#1d1d1f";
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(...pixels(map, map.place.get(pointed)), 8, 0, 2 * Math.PI);
    context.stroke();
  }
}

function drawAll() {
  maps.forEach(draw);
}

function sign(style) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 10 10");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  const circle = "M5 0A5 5 0 1 1 5 10A5 5 0 1 1 5 0Z";
  path.setAttribute("d", style.shape === "triangle" ? "M5 0L10 9L0 9Z" : circle);
  path.setAttribute("fill", style.colour);
  svg.append(path);
  return svg;
}

function drawLegend() {
  legend.replaceChildren();
  const others = colouring.classes.filter((style) => !style.coloured);
  colouring.classes.forEach((style, code) => {
    if (!style.coloured) return;
    const button = make("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(alone === code));
    button.append(sign(style), make("bdi", "", style.name), " ", make("b", "", String(style.count)));
    button.addEventListener("click", () => {
      alone = alone === code ? null : code;
      drawLegend();
      drawAll();
      legend.querySelectorAll("button")[code].focus();
    });
    const item = make("li");
    item.append(button);
    legend.append(item);
  });
  if (others.length) {
    const count = others.reduce((sum, style) => sum + style.count, 0);
    const item = make("li", "other");
    item.append(sign({ colour: "#B5B5BB", shape: "circle" }), `${others.length} others ${count}`);
    legend.append(item);
  }
}

function point(token) {
  if (token === pointed) return;
  pointed = token;
  if (token !== null) {
    const [before, word, after, text] = data.tokens[token];
    const about = data.colourings.map((one) => {
      const code = one.of_tokens[token];
      return one.id === "sequence" || one.id === "domain" || code < 0 ? null : one.classes[code].name;
    });
    about.push(data.texts[text].domain, data.texts[text].title);
    reading.replaceChildren(
      make("span", "context", before),
      make("mark", "", word),
      make("span", "context", after),
      make("span", "about", about.filter((name) => name !== null).join(" · ")),
    );
  }
  drawAll();
}

function nearest(map, event) {
  const box = map.canvas.getBoundingClientRect();
  const x = event.clientX - box.left, y = event.clientY - box.top;
  let best = null, least = REACH * REACH;
  map.tokens.forEach((token, row) => {
    if (alone !== null && colouring.of_tokens[token] !== alone) return;
    const [px, py] = pixels(map, row);
    const distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < least) [best, least] = [token, distance];
  });
  return best;
}

for (const map of maps) {
  const show = (event) => point(nearest(map, event));
  map.canvas.addEventListener("pointermove", show);
  map.canvas.addEventListener("pointerdown", show);
  map.canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const row = map.place.has(pointed) ? map.place.get(pointed) + step : 0;
    point(map.tokens[Math.max(0, Math.min(map.tokens.length - 1, row))]);
  });
  new ResizeObserver(() => draw(map)).observe(map.canvas);
}

function choose(number) {
  radios[number].checked = true;
  colouring = data.colourings[number];
  alone = null;
  history.replaceState(null, "", "#" + colouring.id);
  drawLegend();
  drawAll();
}

radios.forEach((radio, number) => radio.addEventListener("change", () => choose(number)));
const asked = data.colourings.findIndex((one) => "#" + one.id === location.hash);
if (asked > 0) choose(asked);
drawLegend();
drawAll();
