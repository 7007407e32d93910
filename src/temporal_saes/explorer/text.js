// The text that is typed: read, coloured by the pinned latents, with the strongest latents of any part of it.

// --- the text that was read ---

let units = [], largest = new Map(), summary = null, n_read = 0, perRow = 1, starts = new Set(), passages = [];

function forget() {
  units = []; largest = new Map(); here.clear(); summary = null; n_read = 0; starts = new Set(); passages = [];
}

function take(context) {
  starts.add(units.length);
  let at = context.start;
  for (const [text, n, isRead, codes] of context.units) {
    units.push({ text, first: at, n, isRead: Boolean(isRead), codes: new Map(codes) });
    at += n;
    for (const [latent, value] of codes) {
      if (value > (largest.get(latent) || 0)) largest.set(latent, value);
      if (text.trim()) strongestHere(latent, value, text);
    }
  }
  n_read = at;
}

// Three tokens of this text at which a latent is strongest, no word twice.
const here = new Map();

function strongestHere(latent, value, text) {
  const best = here.get(latent) || [];
  if (best.length === 3 && value <= best[2][0]) return;
  const others = best.filter(([other, word]) => word.trim() !== text.trim() || other > value);
  if (others.some(([, word]) => word.trim() === text.trim())) return;
  here.set(latent, [...others, [value, text]].sort((a, b) => b[0] - a[0]).slice(0, 3));
}

// Sentences and lines: where one ends, and what begins the next. Blank lines belong to what stands before them.
function findPassages() {
  passages = [];
  findSentences();
  passages = passages.reduce((kept, [first, last]) => {
    const isBlank = units.slice(first, last + 1).every((unit) => !unit.text.trim());
    if (isBlank && kept.length) kept[kept.length - 1][1] = last;
    else kept.push([first, last]);
    return kept;
  }, []);
}

// The stops of scripts that no space has to follow; those of texts/spans.py.
const STOPS = "。！？｡।॥؟۔։።፧፨။។៕", CLOSING = "[\"'”’»›)\\]}）］｝」』】〉》]";
const UNSPACED_STOP = new RegExp(`[${STOPS}]`), SENTENCE_END = new RegExp(`[.!?…${STOPS}]${CLOSING}*$`), CLOSES = new RegExp(`^${CLOSING}+$`);

function findSentences() {
  let begin = 0;
  units.forEach((unit, i) => {
    const next = units[i + 1];
    const ends = /\n\s*$/.test(unit.text) || SENTENCE_END.test(unit.text) && (!next || /^\s/.test(next.text) || UNSPACED_STOP.test(unit.text));
    const closes = next && CLOSES.test(next.text);
    if (ends && !closes || !next || (CLOSES.test(unit.text) && i > begin && SENTENCE_END.test(units[i - 1].text))) {
      passages.push([begin, i]);
      begin = i + 1;
    }
  });
}

function scopeRange() {
  if (now.scope === "text" || !units.length) return null;
  const [first, last] = (now.range || [0, 0]).map((i) => Math.min(Math.max(i, 0), units.length - 1));
  return [Math.min(first, last), Math.max(first, last)];
}

// The strongest latents of a split in the scope: [latent, value] by mean, or by how much more than in the rest.
function strongest(split) {
  const range = scopeRange();
  if (!range) return summary ? summary.means[split] : meansOf(0, units.length - 1, split);
  const inside = meansOf(...range, split);
  if (now.scope !== "passage" || now.by !== "rest") return inside;
  const rest = new Map();
  let n = 0;
  units.forEach((unit, i) => {
    if (!unit.isRead || (i >= range[0] && i <= range[1])) return;
    n += unit.n;
    for (const [latent, value] of unit.codes) rest.set(latent, (rest.get(latent) || 0) + value * unit.n);
  });
  return inside.map(([latent, value]) => [latent, value - (n ? (rest.get(latent) || 0) / n : 0)])
    .filter(([, value]) => value > 0).sort((a, b) => b[1] - a[1]);
}

function meansOf(first, last, split) {
  const sums = new Map();
  let n = 0;
  for (let i = first; i <= last; i++) {
    const unit = units[i];
    if (!unit.isRead) continue;
    n += unit.n;
    for (const [latent, value] of unit.codes) {
      if (split === "all" || !known.has(latent) || splitOf(latent) === split) sums.set(latent, (sums.get(latent) || 0) + value * unit.n);
    }
  }
  return [...sums].map(([latent, sum]) => [latent, sum / n]).sort((a, b) => b[1] - a[1]);
}

// --- pieces of the page ---

const typed = make("textarea", { dir: "auto", id: "typed", rows: "5", spellcheck: "false", placeholder: "Type or paste a text. Ctrl+Enter reads it." });
const readButton = make("button", { type: "button", class: "main", id: "read", onclick: () => read() }, "Read");
const progress = make("p", { class: "quiet", id: "progress", role: "status" });
const text = make("p", { id: "text", class: "tokens", tabindex: "0", role: "group", "aria-label": "The text; arrow keys go from token to token" });
const pins = make("ul", { class: "pins", id: "pins" });
const lists = make("div", { class: "lists", id: "lists" });
const scopeTitle = make("h3", { id: "scope", "aria-live": "polite" });
const scopes = make("div", { class: "choice", role: "group", "aria-label": "Latents of" });
const orders = make("div", { class: "choice", role: "group", "aria-label": "Order by" });
const picture = make("div", { class: "picture" });
const readView = make("div", { class: "read", hidden: true });
const search = make("input", { type: "text", id: "search", autocomplete: "off", spellcheck: "false" });
const answers = make("ul", { class: "answers", hidden: true });
const prompt = make("textarea", { dir: "auto", id: "prompt", rows: "2", spellcheck: "false", placeholder: "What the model goes on from." });
const sliders = make("div", { class: "sliders", id: "sliders" });
const writeButton = make("button", { type: "button", class: "main", id: "write", onclick: () => write() }, "Write both");
const writing = make("p", { class: "quiet", id: "writing", role: "status" });
const plain = make("p", { class: "tokens", id: "plain" });
const steered = make("p", { class: "tokens", id: "steered" });
let spans = [];

function shownUnit(unit) {
  const span = make("span", { class: unit.isRead ? null : "out", title: unit.isRead ? null : "not read: special, or an attention sink" }, ...signs(unit.text));
  return span;
}

function addUnits(from) {
  const made = [];
  for (let i = from; i < units.length; i++) {
    if (starts.has(i) && i > 0) made.push(make("span", { class: "edge", title: "here a new context begins, which the model reads by itself", "aria-hidden": "true" }, "┊"));
    const span = shownUnit(units[i]);
    span.dataset.i = i;
    spans.push(span);
    made.push(span);
  }
  text.append(...made);
  text.classList.toggle("long", units.length > LONG);
  paintUnits(from);
}

// One pinned latent colours the token; several are lines below it, one each. The colour is as strong as the
// latent, beside where it is strongest in the text.
function paintUnits(from = 0) {
  const many = now.pins.length > 1;
  text.style.setProperty("--lines", many ? now.pins.length : 0);
  for (let i = from; i < units.length; i++) {
    const { codes } = units[i];
    const active = now.pins.some((latent) => codes.has(latent));
    const span = spans[i];
    span.classList.toggle("on", active);
    if (!active) {
      span.style.removeProperty("--bands");
    } else {
      span.style.setProperty("--bands", now.pins.map((latent, place) => {
        const share = (codes.get(latent) || 0) / (largest.get(latent) || 1);
        const colour = many ? `rgba(${HUES[place]}, ${share.toFixed(3)})` : `rgba(${HUES[place]}, calc(${share.toFixed(3)} * var(--strength)))`;
        const where = many ? ` 0 calc(100% - ${now.pins.length - 1 - place} * var(--line-height)) / 100% var(--line-height) no-repeat` : "";
        return `linear-gradient(${colour}, ${colour})${where}`;
      }).join(", "));
    }
    if (units[i].isRead) span.title = now.pins.length ? now.pins.map((latent) => `${latent}: ${number(codes.get(latent) || 0)}`).join("\n") : "";
  }
}

let marked = [];

function mark() {
  for (const span of marked) span.classList.remove("within", "at");
  const range = scopeRange();
  marked = [];
  if (!range) return;
  for (let i = range[0]; i <= range[1]; i++) marked.push(spans[i]);
  for (const span of marked) span.classList.add(now.scope === "token" ? "at" : "within");
}

function showPins() {
  pins.replaceChildren(...now.pins.map((latent) => {
    const one = known.get(latent) || {};
    const about = said(latent);
    return make("li", { class: "pin", style: hue(latent) },
      make("span", { class: "swatch" }),
      make("span", null, make("strong", null, String(latent)), " ", ...(one.split ? [badge(one.split)] : [])),
      make("span", { class: "about" }, ...about,
        ...(one.raised ? [about.length ? " · raises " : "raises ", ...one.raised.slice(0, 5).flatMap((token) => [word(token), " "])] : [])),
      make("span", { class: "tail line", style: "margin:0" },
        one.density !== null && one.density !== undefined ? make("span", { class: "quiet" }, `active at ${percent(one.density)}`) : null,
        one.has_page ? make("a", { href: `browser/index.html#latent=${latent}`, target: "_blank", rel: "noopener" }, "its page") : null,
        make("button", { type: "button", class: "small", "aria-label": `Unpin latent ${latent}`, onclick: () => pin(latent) }, "✕")));
  }));
  if (!now.pins.length) pins.append(make("li", { class: "quiet" }, "No latent is pinned: press the number of one below, or search."));
}

function listOf(split) {
  const some = strongest(split).slice(0, PER_LIST);
  const list = ranked(some.map(([latent, value]) => [latent, value]), (latent) => [
    make("button", { type: "button", class: "small number", "aria-pressed": String(now.pins.includes(latent)), style: hue(latent),
      title: now.pins.includes(latent) ? "unpin" : "pin", onclick: () => pin(latent) }, String(latent)),
    make("span", null, ...said(latent))]);
  list.classList.add(split);
  return make("section", { "data-split": split },
    SPLITS.length > 1 ? make("h4", null, badge(split)) : null,
    some.length ? list : make("p", { class: "quiet" }, "No latent is active."));
}

function choose(where, choices, value, pick) {
  where.replaceChildren(...choices.map(([name, label]) => make("button", { type: "button", "data-name": name,
    "aria-pressed": String(name === value), onclick: () => pick(name) }, label)));
}

function showLists() {
  choose(scopes, SCOPES, now.scope, (scope) => setScope(scope));
  orders.hidden = now.scope !== "passage";
  choose(orders, [["mean", "mean"], ["rest", "more than in the rest"]], now.by, (by) => { now.by = by; refresh(); });
  const range = scopeRange();
  if (!range) {
    scopeTitle.replaceChildren("Mean over the whole text");
  } else if (now.scope === "token") {
    scopeTitle.replaceChildren("At ", word(units[range[0]].text));
  } else {
    const n = units.slice(range[0], range[1] + 1).reduce((sum, unit) => sum + unit.n, 0);
    scopeTitle.replaceChildren(now.by === "rest" ? "More than in the rest of the text" : "Mean over the passage", ` (${n} tokens)`);
  }
  lists.replaceChildren(...(units.length ? SPLITS.map(listOf) : []));
}

function setScope(scope, range = now.range) {
  now.scope = scope;
  now.range = range;
  if (scope === "passage" && range && range[0] === range[1]) now.range = passageOf(range[0]);
  if (scope === "token" && range) now.range = [range[0], range[0]];
  if (scope !== "text" && !now.range) now.range = scope === "token" ? [0, 0] : passageOf(0);
  refresh();
}

function passageOf(i) {
  return passages.find(([first, last]) => i >= first && i <= last) || [i, i];
}

function refresh() {
  showLists();
  mark();
  keep();
}

async function pin(latent) {
  if (now.pins.includes(latent)) {
    now.pins = now.pins.filter((one) => one !== latent);
    now.strengths.delete(latent);
  } else {
    if (now.pins.length === MOST_PINS) { tell(`${MOST_PINS} latents can be pinned: unpin one first.`); return; }
    now.pins = [...now.pins, latent];
  }
  tell("");
  showAll();
  await describe();
}

function showAll() {
  showPins();
  showSliders();
  paintUnits();
  refresh();
}

// What the tokens are that pinned latents raise is told of those alone: it takes a moment each.
async function describe() {
  const missing = now.pins.filter((latent) => !(known.get(latent) || {}).raised);
  if (!missing.length) return;
  await withServer(async () => {
    const answer = await ask(`latents?numbers=${missing.join(",")}`);
    const some = await answer.json();
    if (some.error) throw new Error(some.error);
    learn(some);
  });
  showPins();
  showSliders();
  showLists();
}

// --- reading ---

let reading = null;

async function read() {
  now.text = typed.value;
  keep();
  if (reading) reading.abort();
  const mine = reading = new AbortController();
  readButton.disabled = true;
  const began = performance.now();
  await withServer(async () => {
    forget();
    spans = []; marked = [];
    text.replaceChildren();
    progress.textContent = "Reading …";
    picture.replaceChildren();
    let told = null;
    for await (const event of events("read", { text: now.text }, mine.signal)) {
      if (event.text) {
        told = event.text;
        perRow = told.per_row;
        readView.hidden = false;
      } else if (event.context) {
        const from = units.length;
        take(event.context);
        addUnits(from);
        progress.textContent = `Reading: ${n_read.toLocaleString("en")} of ${told.tokens.toLocaleString("en")} tokens`;
        if (from === 0) showLists();
      } else if (event.whole) {
        summary = event.whole;
        learn(summary.about);
        findPassages();
        if (!now.pins.length) now.pins = suggested();
        const left = told.tokens - summary.usable;
        progress.textContent = `${told.tokens.toLocaleString("en")} tokens in ${told.contexts} context${told.contexts === 1 ? "" : "s"}, ${number((performance.now() - began) / 1000, 2)} s` +
          (left ? `; ${left.toLocaleString("en")} not read (special, or an attention sink)` : "") +
          (now.text.length > LONGEST_ADDRESS ? "; too long to stand in the address" : "");
        showPicture();
        if (!now.prompt) { now.prompt = opening(); prompt.value = now.prompt; }
        showAll();
      }
    }
  });
  if (summary) await describe(); // when all is received, or the answer would count as broken off
  if (mine === reading) {
    readButton.disabled = false;
    if (!summary && /^Reading/.test(progress.textContent)) progress.textContent = "";
  }
}

// The strongest latent of each split, so that something is coloured.
function suggested() {
  return SPLITS.map((split) => (summary.means[split] || [])[0]).filter(Boolean).map(([latent]) => latent);
}

// The beginning of the text, to go on from.
function opening() {
  const words = now.text.trim().split(/\s+/);
  return words.slice(0, 12).join(" ");
}

function showPicture() {
  const n = summary.kernel.length;
  if (n < 2) { picture.replaceChildren(); return; }
  const byToken = new Map();
  units.forEach((unit, i) => { for (let k = 0; k < unit.n; k++) byToken.set(unit.first + k, i); });
  const name = (row) => {
    const first = byToken.get(summary.rows[row] * perRow);
    const last = byToken.get(Math.min(summary.rows[row] * perRow + perRow, n_read) - 1);
    return [word(perRow === 1 ? units[first].text : units.slice(first, last + 1).map((unit) => unit.text).join(""))];
  };
  const [matrix, pair] = similarityMatrix(summary.kernel, name);
  const compared = SPLITS.length > 1 ? ` (${summary.compared})` : "";
  picture.replaceChildren(make("details", { open: true },
    make("summary", null, `How alike the ${perRow === 1 ? "tokens" : `stretches of ${perRow} tokens`} are${compared}`),
    matrix, pair,
    make("p", { class: "quiet" }, "Cosine of the centred codes, from −1 (blue) over 0 (white) to 1 (orange).")));
}

function pick(i, isLonger) {
  if (isLonger && now.range) setScope("passage", [Math.min(now.range[0], i), Math.max(now.range[1], i)]);
  else if (now.scope === "passage") setScope("passage", passageOf(i));
  else setScope("token", [i, i]);
}

text.addEventListener("click", (event) => {
  const span = event.target.closest("[data-i]");
  if (!span) return;
  const selected = window.getSelection();
  const ends = [selected.anchorNode, selected.focusNode].map((node) => node && (node.nodeType === 1 ? node : node.parentElement));
  const inside = ends.map((node) => (node && text.contains(node) ? node.closest("[data-i]") : null));
  if (!selected.isCollapsed && inside[0] && inside[1] && inside[0] !== inside[1]) {
    const [a, b] = inside.map((node) => Number(node.dataset.i));
    setScope("passage", [Math.min(a, b), Math.max(a, b)]);
    selected.removeAllRanges();
  } else {
    pick(Number(span.dataset.i), event.shiftKey);
  }
});

text.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || !units.length) return;
  event.preventDefault();
  const from = now.scope === "text" || !now.range ? (by > 0 ? -1 : units.length) : now.range[by > 0 ? 1 : 0];
  const i = Math.min(units.length - 1, Math.max(0, from + by));
  pick(i, false);
  spans[i].scrollIntoView({ block: "nearest" });
});

// --- searching latents ---

let searching = null;

search.addEventListener("input", async () => {
  if (searching) searching.abort();
  const mine = searching = new AbortController();
  const words = search.value.trim();
  if (!words) { answers.hidden = true; return; }
  await new Promise((go) => setTimeout(go, 150));
  if (mine.signal.aborted) return;
  const some = await withServer(async () => (await ask(`latents?search=${encodeURIComponent(words)}`, undefined, mine.signal)).json());
  if (!some || mine !== searching) return;
  if (some.error) { tell(some.error); return; }
  learn(some);
  answers.hidden = false;
  answers.replaceChildren(...(some.length ? some.map(({ latent }) => make("li", null,
    make("button", { type: "button", onclick: () => { answers.hidden = true; search.value = ""; if (!now.pins.includes(latent)) pin(latent); } },
      make("strong", null, String(latent)), " ", splitOf(latent) ? badge(splitOf(latent)) : "", " ", ...said(latent))))
    : [make("li", { class: "quiet" }, "No latent of that number, and none whose explanation or tokens say that.")]));
});

search.addEventListener("keydown", (event) => {
  if (event.key === "Escape") answers.hidden = true;
  if (event.key === "Enter") { const first = answers.querySelector("button"); if (first && !answers.hidden) first.click(); }
});
