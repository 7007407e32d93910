// Two continuations of a prompt as they are written, and the page as a whole.

// --- steering ---

function unitOf(latent) {
  return (known.get(latent) || {}).maximum || largest.get(latent) || 10;
}

function showSliders() {
  const [least, most] = STRENGTHS[now.mode];
  sliders.replaceChildren(...now.pins.map((latent) => {
    const by = Math.min(most, Math.max(least, now.strengths.get(latent) || 0));
    const value = make("span", { class: "quiet number" });
    const reset = make("button", { type: "button", class: "small", onclick: () => { now.strengths.delete(latent); showSliders(); keep(); write(); } },
      now.mode === "add" ? "back to 0" : "leave it as it is");
    const isLeft = () => now.mode === "clamp" && !now.strengths.has(latent);
    const say = () => {
      const at = now.strengths.get(latent) || 0;
      value.textContent = isLeft() ? "left as it is" : `${now.mode === "add" ? "adds" : "is set to"} ${number(at * unitOf(latent))}, ${number(at)} × its largest`;
      reset.hidden = !now.strengths.has(latent) || (now.mode === "add" && at === 0);
    };
    const slider = make("input", { type: "range", min: least, max: most, step: "0.25", value: by, "aria-label": `Strength of latent ${latent}`, "data-latent": latent,
      oninput: (event) => { now.strengths.set(latent, Number(event.target.value)); say(); },
      onchange: () => { keep(); write(); } });
    say();
    return make("div", { class: "slider", style: hue(latent) },
      make("span", { class: "swatch" }), make("strong", { class: "number" }, String(latent)), slider,
      make("span", { class: "line", style: "margin:0" }, value, reset));
  }));
  if (!now.pins.length) sliders.append(make("p", { class: "quiet" }, "Pin a latent to steer it."));
}

let writer = null;

async function write() {
  now.prompt = prompt.value;
  keep();
  if (writer) writer.abort();
  const mine = writer = new AbortController();
  const strengths = {};
  for (const [latent, by] of now.strengths) {
    if (now.pins.includes(latent) && (by !== 0 || now.mode === "clamp")) strengths[latent] = by * unitOf(latent);
  }
  const wish = { prompt: now.prompt, strengths, mode: now.mode, tokens: now.tokens, temperature: now.temperature, seed: now.seed };
  writing.textContent = "Writing …";
  await withServer(async () => {
    for (const [where, more] of [[plain, ""], [steered, ""]]) showWritten(where, now.prompt, more);
    for await (const event of events("write", wish, mine.signal)) {
      if (event.waiting) writing.textContent = "Somebody else is written for: you are next.";
      if (event.texts) {
        [plain, steered].forEach((where, i) => showWritten(where, now.prompt, event.texts[i]));
        writing.textContent = `${event.tokens} of ${now.tokens} tokens`;
      }
      if (event.done) writing.textContent = Object.keys(strengths).length ? "" : "Nothing is steered: move a slider.";
    }
  });
  if (mine === writer && /^(Writing|\d+ of|Somebody)/.test(writing.textContent)) writing.textContent = "";
}

function showWritten(where, before, after) {
  where.replaceChildren(make("span", { class: "prompt" }, ...signs(before)), make("span", null, ...signs(after)));
}

function setting(name, label, more) {
  return make("label", null, label, make("input", { type: "number", id: name, value: now[name], ...more,
    onchange: (event) => {
      const { min, max, step } = more;
      const value = Math.min(Number(max), Math.max(Number(min), Number(event.target.value) || 0));
      now[name] = step === "1" ? Math.round(value) : value;
      event.target.value = now[name];
      keep();
    } }));
}

// --- the whole ---

function build() {
  const about = facts(Object.entries(FACTS.about));
  readView.append(
    make("div", null, text, make("p", { class: "quiet" },
      "A pinned latent colours the text, several are lines below it: the stronger the colour, the more active. Click a token; drag, or click with Shift, for a passage.")),
    make("div", { class: "beside" }, make("div", { class: "line" }, scopes, orders), scopeTitle, lists),
    picture);
  view.append(about,
    make("label", { class: "typed" }, "Text", typed),
    make("div", { class: "line" }, readButton, progress),
    make("h2", null, "Pinned latents"),
    pins,
    make("div", { class: "line" }, make("label", { class: "found quiet" }, "Search latents by number, explanation or token", search, answers)),
    make("h2", { id: "heading" }, "Read"), readView,
    make("h2", null, "Steer"),
    make("label", { class: "typed", style: "margin-top:.5rem" }, "Prompt", prompt),
    sliders,
    make("div", { class: "settings" },
      make("label", null, "Mode", make("select", { id: "mode", onchange: (event) => { now.mode = event.target.value; if (now.mode === "clamp") now.strengths.clear(); showSliders(); keep(); } },
        make("option", { value: "add", selected: now.mode === "add" }, "add to it"), make("option", { value: "clamp", selected: now.mode === "clamp" }, "set it"))),
      setting("tokens", "Tokens", { min: "1", max: String(FACTS.most_tokens), step: "1" }),
      setting("temperature", "Temperature", { min: "0", max: "10", step: "0.1" }),
      setting("seed", "Seed", { min: "0", max: String(2 ** 32 - 1), step: "1" }),
      writeButton),
    writing,
    make("div", { class: "both" },
      make("section", null, make("h3", null, "Plain"), plain),
      make("section", null, make("h3", null, "Steered"), steered)),
    make("p", { class: "quiet" }, "Both go on from the same prompt with the same random numbers: they differ by the steering alone."));
  typed.value = now.text;
  prompt.value = now.prompt;
}

for (const [where, act] of [[typed, read], [prompt, write]]) {
  where.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); act(); }
  });
}
prompt.addEventListener("change", () => { now.prompt = prompt.value; keep(); });
document.getElementById("copy").addEventListener("click", async (event) => {
  keep();
  try {
    await navigator.clipboard.writeText(location.href);
    event.target.textContent = "Copied";
  } catch {
    event.target.textContent = "Copy it from the address bar";
  }
  setTimeout(() => { event.target.textContent = "Copy the address"; }, 2000);
});
window.addEventListener("hashchange", () => location.reload()); // somebody pasted another address

build();
showAll();
if (now.text) read();
else describe();
