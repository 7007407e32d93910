"use strict";
// Shows the index, one latent, or one sentence, as the address says. Texts come in by textContent alone.
const view = document.getElementById("view");
const title = document.getElementById("title");
const about = JSON.parse(document.getElementById("about").textContent);
const NAME = title.textContent;
const PER_PAGE = 50;
const SORTS = {
  telling: ["what passages say of it", -1], latent: ["latent", 1],
  stretch: ["length of a stretch", -1], information: ["bits about the document", -1], density: ["density", -1], maximum: ["largest activation", -1],
  smoothness: ["smoothness", 1], steadiness: ["steadiness", -1], score: ["score", -1],
};

// --- data, loaded as scripts: a page from the disk may load those ---

const waiting = new Map(), loaded = new Map();

window.receive = (name, data) => waiting.get(name)(data);

function load(name) {
  if (!loaded.has(name)) {
    loaded.set(name, new Promise((resolve, reject) => {
      waiting.set(name, resolve);
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onerror = () => {
        loaded.delete(name);
        reject(new Error(`data/${name}.js cannot be read: the folder is not whole.`));
      };
      document.head.append(script);
    }));
  }
  return loaded.get(name);
}

function show(heading, ...children) {
  title.textContent = heading;
  document.title = heading === NAME ? `Latents of ${NAME}` : `${heading}, ${NAME}`;
  view.replaceChildren(...children.filter((child) => child !== null));
}

// Classes or titles, each with how many times as often it is there as elsewhere.
function preferred(pairs, before = "") {
  if (!pairs.length) return null;
  return make("span", { class: "quiet" }, before, ...pairs.flatMap(([name, lift], i) =>
    [i ? ", " : null, make("bdi", null, visible(name)), ` ${number(lift, 2)}×`]));
}

// A latent in few words: its explanation, the words it is held over, or the tokens where it is strongest.
function briefly(index, vocabulary, row, n) {
  if (row === undefined) return [];
  if (index.explanation[row]) return [index.explanation[row]];
  if (index.words[row].length) return [inRow(index.words[row].slice(0, n))];
  return index.tokens[row].slice(0, n).map((token) => word(vocabulary[token]));
}

// --- the index ---

function wanted(address) {
  return {
    search: address.get("search") || "", split: address.get("split") || "",
    sort: address.get("sort") in SORTS ? address.get("sort") : "telling",
    reverse: address.get("reverse") === "1", dead: address.get("dead") === "1",
    explained: address.get("explained") === "1", page: Number(address.get("page")) || 0,
  };
}

function showIndex(index, vocabulary, address) {
  const asked = wanted(address);
  const words = index.tokens.map((some) => some.map((token) => vocabulary[token]));
  const texts = index.latents.map((latent, row) =>
    [latent, index.explanation[row], ...words[row], ...index.words[row], ...index.classes[row].map(([name]) => name)]
      .join(" ").toLowerCase());
  const table = make("table", { class: "index" });
  const count = make("p", { class: "quiet", id: "count", role: "status" });
  const pager = make("div", { class: "pager" });

  function rows() {
    const parts = asked.search.toLowerCase().split(/\s+/).filter(Boolean);
    const exact = /^\d+$/.test(asked.search.trim()) ? Number(asked.search) : null;
    const found = index.latents.map((_, row) => row).filter((row) =>
      (asked.dead || index.density[row] > 0) && (!asked.split || index.split[row] === asked.split) &&
      (!asked.explained || index.explanation[row]) &&
      (exact !== null ? index.latents[row] === exact || texts[row].includes(asked.search.trim())
        : parts.every((part) => texts[row].includes(part))));
    const values = asked.sort === "latent" ? index.latents : index[asked.sort];
    const sign = SORTS[asked.sort][1] * (asked.reverse ? -1 : 1);
    // what is undefined comes last, whichever way
    return found.sort((a, b) => {
      const [x, y] = [values[a], values[b]];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return sign * (x - y) || a - b;
    });
  }

  function keep() {
    const kept = new URLSearchParams();
    for (const [key, value] of Object.entries(asked)) {
      if (value && !(key === "sort" && value === "telling")) kept.set(key, value === true ? "1" : value);
    }
    history.replaceState(null, "", `#${kept}`);
  }

  function change(what) {
    Object.assign(asked, { page: 0 }, what);
    keep();
    fill();
  }

  function header(name, label, className) {
    const sorted = asked.sort === name;
    const up = (SORTS[name][1] > 0) !== asked.reverse;
    const cell = make("th", { scope: "col", class: className, "aria-sort": sorted ? (up ? "ascending" : "descending") : null });
    cell.append(make("button", {
      type: "button", onclick: () => change(sorted ? { reverse: !asked.reverse } : { sort: name, reverse: false }),
    }, label, sorted ? (up ? " ↑" : " ↓") : ""));
    return cell;
  }

  const hasSplits = index.splits.length > 0, hasScores = index.score.some((score) => score !== null);

  function fill() {
    const found = rows();
    const n = Math.max(1, Math.ceil(found.length / PER_PAGE));
    asked.page = Math.min(Math.max(asked.page, 0), n - 1);
    const some = found.slice(asked.page * PER_PAGE, (asked.page + 1) * PER_PAGE);
    count.textContent = `${found.length.toLocaleString("en")} of ${index.latents.length.toLocaleString("en")} latents`;
    table.replaceChildren(
      make("thead", null, make("tr", null,
        header("latent", "latent"),
        hasSplits ? make("th", { scope: "col", class: "split quiet" }, "split") : null,
        make("th", { scope: "col", class: "meaning quiet" }, "explanation, or the words it is held over; where it is strongest"),
        header("stretch", "stretch", "number"),
        header("density", "density", "number"), header("maximum", "largest", "number"),
        header("smoothness", "smoothness", "number"), hasScores ? header("score", "score", "number") : null)),
      make("tbody", null, ...some.map((row) => make("tr", null,
        make("th", { scope: "row" }, make("a", { href: `#latent=${index.latents[row]}` }, String(index.latents[row]))),
        hasSplits ? make("td", { class: "split" }, badge(index.split[row])) : null,
        make("td", { class: "meaning words" }, ...meaning(row)),
        make("td", { class: "number", "data-name": "stretch" }, number(index.stretch[row], 2)),
        make("td", { class: "number", "data-name": "density" }, percent(index.density[row])),
        make("td", { class: "number", "data-name": "largest" }, number(index.maximum[row])),
        make("td", { class: "number", "data-name": "smoothness" }, number(index.smoothness[row])),
        hasScores ? make("td", { class: "number", "data-name": "score" }, number(index.score[row], 2)) : null))),
    );
    const step = (by) => () => { asked.page += by; keep(); fill(); table.scrollIntoView({ block: "nearest" }); };
    pager.replaceChildren(
      make("button", { type: "button", disabled: asked.page === 0, onclick: step(-1) }, "← back"),
      `page ${asked.page + 1} of ${n.toLocaleString("en")}`,
      make("button", { type: "button", disabled: asked.page === n - 1, onclick: step(1) }, "on →"));
    pager.hidden = n === 1;
  }

  function meaning(row) {
    if (index.explanation[row]) return [index.explanation[row]];
    if (index.density[row] === 0) return [make("span", { class: "quiet" }, "never active")];
    if (!index.words[row].length) return words[row].map(word);
    return [make("span", { class: "held" }, inRow(index.words[row])), preferred(index.classes[row].slice(0, 1), " "),
      make("span", { class: "at" }, ...words[row].map(word))];
  }

  const select = (id, label, value, choices, onchange) => make("label", null, label,
    make("select", { id, onchange: (event) => onchange(event.target.value) },
      ...choices.map(([key, name]) => make("option", { value: key, selected: key === value }, name))));
  const check = (id, label, checked, onchange) => make("label", { class: "check" },
    make("input", { type: "checkbox", id, checked, onchange: (event) => onchange(event.target.checked) }), label);
  const hasDead = index.density.some((density) => density === 0), hasExplanations = index.explanation.some(Boolean);
  const sorts = Object.entries(SORTS).filter(([key]) => key !== "score" || hasScores);
  show(NAME,
    facts(Object.entries(about)),
    make("div", { class: "tools", role: "search" },
      make("label", { class: "search" }, "Search explanations, words, tokens, classes and numbers",
        make("input", { type: "search", id: "search", value: asked.search,
          oninput: (event) => change({ search: event.target.value }) })),
      hasSplits ? select("split", "Split", asked.split,
        [["", "all"], ...index.splits.map((name) => [name, name])], (split) => change({ split })) : null,
      select("sort", "Sort by", asked.sort, sorts.map(([key, [name]]) => [key, name]),
        (sort) => change({ sort, reverse: false })),
      hasExplanations ? check("explained", "explained only", asked.explained, (explained) => change({ explained })) : null,
      hasDead ? check("dead", "with those never active", asked.dead, (dead) => change({ dead })) : null),
    count, table, pager,
    make("p", { class: "quiet" },
      "Density is the share of tokens at which a latent is active. Smoothness is the largest change of its " +
      "activation from one token to the next over the distance of the model's activations, a mean over texts: " +
      "lower is smoother. The words are those that its active stretches of text hold more than the rest, by their log " +
      "odds; behind them stands the class of documents that it prefers, with its lift, and where it is strongest. A stretch is how many tokens " +
      "it stays on (median over its tokens). The first order is by length of a stretch times bits about the document."));
  fill();
}

// --- tokens in colour ---

function coloured(tokens, first, values, peak, largest, out = null) {
  return tokens.map((text, i) => {
    const position = first + i, value = values.get(position);
    const names = [];
    if (value) names.push("on");
    if (position === peak) names.push("peak");
    if (out && out.has(position)) names.push("out");
    return make("span", {
      class: names.join(" ") || null, title: out && out.has(position) ? "not read" : number(value || 0),
      style: value ? `--a:${Math.min(1, value / largest).toFixed(2)}` : null,
    }, ...signs(text, out === null)); // a part of a context is one paragraph
  });
}

function exampleRow(example, vocabulary, largest, perFile) {
  const values = new Map(example.i.map((position, i) => [position, example.v[i]]));
  const near = coloured(example.t.map((token) => vocabulary[token]), example.f, values, example.p, largest);
  const before = example.f > 0 ? "…" : "", after = example.f + example.t.length < example.n ? "…" : "";
  const tokens = make("button", { type: "button", class: "tokens", "aria-expanded": "false", title: "the whole context" },
    before, ...near, after);
  let whole = null;
  tokens.addEventListener("click", async () => {
    if (window.getSelection().toString()) return;
    const open = tokens.getAttribute("aria-expanded") === "false";
    if (open && whole === null) {
      const contexts = await load(`contexts-${Math.floor(example.c / perFile.contexts)}`);
      const context = contexts[example.c % perFile.contexts];
      const texts = context.t.map((token) => vocabulary[token]);
      whole = coloured(texts, 0, values, example.p, largest, new Set(context.out));
    }
    tokens.setAttribute("aria-expanded", String(open));
    tokens.replaceChildren(...(open ? whole : [before, ...near, after]));
  });
  return make("li", null, make("span", { class: "value" }, number(values.get(example.p))), tokens);
}

// --- a latent ---

function histogram(counts, width) {
  const most = Math.max(...counts, 1);
  // a logarithm, or all but the weakest bins would be out of sight
  const height = (n) => (n ? 4 + 96 * Math.log(n + 1) / Math.log(most + 1) : 0);
  const bars = counts.map((n, i) => draw("rect", { x: i + 0.06, y: 100 - height(n), width: 0.88, height: height(n) },
    (() => { const t = draw("title", {}); t.textContent = `${number(i * width)} to ${number((i + 1) * width)}: ${n.toLocaleString("en")} tokens`; return t; })()));
  return [
    draw("svg", { class: "histogram", viewBox: `0 0 ${Math.max(counts.length, 1)} 100`, preserveAspectRatio: "none",
      role: "img", "aria-label": `Histogram of activations up to ${number(counts.length * width)}` }, ...bars),
    make("div", { class: "axis" }, make("span", null, "0"),
      make("span", null, `${most.toLocaleString("en")} tokens in the highest bar`), make("span", null, number(counts.length * width))),
  ];
}

function showLatent(index, vocabulary, record, row) {
  const latent = index.latents[row], split = index.split[row];
  const rows = new Map(index.latents.map((one, i) => [one, i]));
  const near = (other) => {
    const place = rows.get(other);
    if (place === undefined) return [String(other)];
    return [make("a", { href: `#latent=${other}` }, String(other)), " ", ...briefly(index, vocabulary, place, 3)];
  };
  const token = (place) => [word(vocabulary[place])];
  const step = (by, label) => (index.latents[row + by] === undefined ? null
    : make("a", { href: `#latent=${index.latents[row + by]}` }, label));
  const alive = record.count > 0;
  const largest = index.maximum[row] || 1;
  const list = (some) => make("ul", { class: "examples" },
    ...some.map((example) => exampleRow(example, vocabulary, largest, index.per_file)));
  const order = index.smoothness.filter((value) => value !== null);
  const rank = order.filter((value) => value > index.smoothness[row]).length;
  show(`Latent ${latent}`,
    make("div", { class: split },
      make("p", null, badge(split), split ? " " : "", step(-1, "← previous "), " ", step(1, "next →")),
      index.explanation[row] ? make("p", { class: "explanation" }, index.explanation[row]) : null,
      index.words[row].length ? make("p", { class: index.explanation[row] ? "held" : "held explanation" }, inRow(index.words[row])) : null,
      facts([
        ["density", `${percent(index.density[row])}: ${record.count.toLocaleString("en")} tokens`],
        ["largest activation", alive && number(index.maximum[row])],
        ["mean where active", alive && number(index.mean[row])],
        ["smoothness (lower is smoother)", alive && index.smoothness[row] !== null
          && `${number(index.smoothness[row])}, smoother than ${number(100 * rank / order.length, 2)} % of the latents`],
        ["steadiness (0 to 1)", alive && number(index.steadiness[row], 2)],
        ["length of a stretch", alive && index.stretch[row] !== null && `${number(index.stretch[row], 2)} tokens`],
        ["tells about the document", alive && index.information[row] !== null && `${number(index.information[row], 2)} bits a token`],
        ["classes it prefers", preferred(index.classes[row])],
        ["titles it prefers", preferred(record.titles)],
        ["score of the explanation", index.score[row] !== null && number(index.score[row], 2)],
      ]),
      make("div", { class: "columns" },
        record.words.length ? make("section", null, make("h3", null, "Words it is held over (log odds in standard errors)"),
          ranked(record.words, (text) => [inRow([text])])) : null,
        alive ? make("section", null, make("h3", null, "Activations"), ...histogram(record.histogram.counts, record.histogram.width)) : null,
        make("section", null, make("h3", null, "Logits raised"), ranked(record.promoted, token)),
        make("section", null, make("h3", null, "Logits lowered"), ranked(record.suppressed, token))),
      make("p", { class: "quiet" }, "Logits: its decoder direction through the final norm and the unembedding, " +
        "when the layers above only pass it on. Heights of the histogram are logarithms."),
      ...(alive ? [
        make("h2", null, "Strongest"),
        make("p", { class: "quiet" }, "The stronger the colour, the larger the activation; a line marks the " +
          "strongest token. Click a text to read all of its context."),
        list(record.top),
        make("h2", null, "Over its range"),
        ...[...record.parts].reverse().flatMap((part) => part.examples.length ? [
          make("h3", null, `${number(part.range[0])} to ${number(part.range[1])}`), list(part.examples)] : []),
      ] : [make("p", { class: "missing" }, "It is active at no token of these texts: no examples, no histogram.")]),
      make("h2", null, "Nearest latents"),
      make("div", { class: "columns" },
        make("section", null, make("h3", null, "by direction (cosine)"), ranked(record.decoder, near)),
        make("section", null, make("h3", null, "by tokens (share where both are active)"), ranked(record.together, near)))));
}

// --- sentences ---

function showSentence(index, vocabulary, sentences, at) {
  const sentence = sentences[at];
  const rows = new Map(index.latents.map((one, i) => [one, i]));
  const out = new Set(sentence.out);
  const usable = sentence.t.map((_, i) => i).filter((i) => !out.has(i));
  const totals = new Map(), largest = new Map();
  for (const codes of sentence.codes) {
    for (const [latent, value] of codes) {
      totals.set(latent, (totals.get(latent) || 0) + value);
      largest.set(latent, Math.max(largest.get(latent) || 0, value));
    }
  }
  const strongest = [...totals.keys()].sort((a, b) => totals.get(b) - totals.get(a)).slice(0, 24);
  let chosen = strongest[0], pressed = null;
  const text = make("p", { class: "tokens" }), chips = make("ul", { class: "chips" }), reading = make("div", { class: "reading" });

  function fill() {
    const scale = largest.get(chosen) || 1;
    const split = rows.has(chosen) ? index.split[rows.get(chosen)] : "";
    text.className = `tokens ${split}`;
    text.replaceChildren(...sentence.t.map((token, i) => {
      if (out.has(i)) return make("span", { class: "out", title: "not read" }, ...signs(vocabulary[token]));
      const value = (sentence.codes[i].find(([latent]) => latent === chosen) || [0, 0])[1];
      return make("button", { type: "button", class: value ? "on" : null, title: number(value), "aria-pressed": String(i === pressed),
        style: value ? `--a:${(value / scale).toFixed(2)}` : null, onclick: () => { pressed = i; fill(); } }, ...signs(vocabulary[token]));
    }));
    chips.replaceChildren(...strongest.map((latent) => {
      const row = rows.get(latent);
      return make("li", null, make("button", { type: "button", "aria-pressed": String(latent === chosen),
        class: row === undefined ? null : index.split[row], onclick: () => { chosen = latent; fill(); } }, String(latent)));
    }));
    const row = rows.get(chosen);
    reading.replaceChildren(...(pressed === null ? [make("p", null, ...(chosen === undefined ? ["No latent is active here."] : [
      "Latent ", row === undefined ? String(chosen) : make("a", { href: `#latent=${chosen}` }, String(chosen)), " ",
      ...briefly(index, vocabulary, row, 8),
    ]))] : [
      make("h3", null, "At ", word(vocabulary[sentence.t[pressed]])),
      ranked(sentence.codes[pressed].slice(0, 12), (latent) => {
        const place = rows.get(latent);
        return [place === undefined ? String(latent) : make("a", { href: `#latent=${latent}` }, String(latent)), " ",
          ...briefly(index, vocabulary, place, 3)];
      }),
    ]));
  }

  const [matrix, pair] = similarityMatrix(sentence.kernel, (i) => [word(vocabulary[sentence.t[usable[i]]])]);
  show("Sentences",
    make("div", { class: "tools" }, make("label", { class: "search" }, "Text",
      make("select", { id: "sentence", onchange: (event) => { location.hash = `#sentence=${event.target.value}`; } },
        ...sentences.map((one, i) => make("option", { value: String(i), selected: i === at }, visible(one.name)))))),
    make("div", { class: "sentence" },
      make("section", null, text, make("h3", null, "Strongest latents here"), chips, reading,
        make("p", { class: "quiet" }, "Choose a latent to colour the text by it, or a token to see its latents.")),
      make("section", null, make("h3", null, `How alike the tokens are (${sentence.compared})`), matrix, pair,
        make("p", { class: "quiet" }, "Cosine of the centred codes, from −1 (blue) over 0 (white) to 1 (orange); the first token is at the top left."))));
  fill();
}

// --- the address ---

async function route() {
  const hash = location.hash.slice(1), address = new URLSearchParams(hash);
  try {
    const [index, vocabulary] = await Promise.all([load("index"), load("vocabulary")]);
    if (address.has("latent")) {
      const row = index.latents.indexOf(Number(address.get("latent")));
      if (row < 0) {
        show("Not here", make("p", { class: "missing" }, `There is no page of latent ${address.get("latent")}.`));
      } else {
        const records = await load(`latents-${Math.floor(row / index.per_file.latents)}`);
        if (hash !== location.hash.slice(1)) return; // somebody went on meanwhile
        showLatent(index, vocabulary, records[row % index.per_file.latents], row);
      }
      window.scrollTo(0, 0);
    } else if (address.has("sentence") && index.n_sentences) {
      const sentences = await load("sentences");
      showSentence(index, vocabulary, sentences, Math.min(index.n_sentences - 1, Number(address.get("sentence")) || 0));
    } else {
      showIndex(index, vocabulary, address);
    }
  } catch (error) {
    show("Something is missing", make("p", { class: "missing" }, error.message));
  }
}

let last = "#";
document.querySelector("nav a").addEventListener("click", (event) => {
  event.preventDefault();
  location.hash = last; // as it was left: searched, sorted
});
window.addEventListener("hashchange", (event) => {
  const from = new URL(event.oldURL).hash;
  if (!/^#(latent|sentence)=/.test(from)) last = from || "#";
  route();
});
route();
