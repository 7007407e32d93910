// What is asked for, as it stands in the address; the server; what is known of latents.
const view = document.getElementById("view");
const state = document.getElementById("state");
const FACTS = JSON.parse(document.getElementById("facts").textContent);
const SPLITS = FACTS.splits.length ? FACTS.splits : ["all"];
const HUES = ["213, 94, 0", "86, 180, 233", "0, 158, 115", "204, 121, 167", "230, 159, 0", "0, 114, 178"];
const MOST_PINS = HUES.length, PER_LIST = 12, LONG = 1500, LONGEST_ADDRESS = 60000;
const STRENGTHS = { add: [-4, 4], clamp: [0, 4] };
const SCOPES = [["token", "Token"], ["passage", "Passage"], ["text", "Whole text"]];

// --- what is asked for, as it stands in the address ---

function whole(text, fallback) {
  const value = Number(text);
  return text !== null && text !== "" && Number.isInteger(value) ? value : fallback;
}

function asked(address) {
  const strengths = new Map((address.get("steer") || "").split(",").filter(Boolean).map((one) => one.split(":").map(Number)));
  const pins = (address.get("pins") || "").split(",").filter(Boolean).map(Number).filter((n) => Number.isInteger(n) && n >= 0 && n < FACTS.latents);
  const range = (address.get("at") || "").match(/^(\d+)-(\d+)$/);
  return {
    text: address.get("text") || "", pins: [...new Set(pins)].slice(0, MOST_PINS),
    strengths: new Map([...strengths].filter(([n, by]) => Number.isInteger(n) && Number.isFinite(by))),
    scope: SCOPES.some(([name]) => name === address.get("scope")) ? address.get("scope") : "text",
    by: address.get("by") === "rest" ? "rest" : "mean",
    range: range ? [Number(range[1]), Number(range[2])] : null,
    prompt: address.get("prompt") || "", mode: address.get("mode") === "clamp" ? "clamp" : "add",
    tokens: Math.min(FACTS.most_tokens, Math.max(1, whole(address.get("tokens"), 40))),
    temperature: Math.min(10, Math.max(0, Number(address.get("temperature")) || 0)),
    seed: Math.min(2 ** 32 - 1, Math.max(0, whole(address.get("seed"), 0))),
  };
}

const now = asked(new URLSearchParams(location.hash.slice(1)));

function keep() {
  const kept = new URLSearchParams();
  const put = (name, value, usual) => { if (value !== usual && value !== "") kept.set(name, value); };
  put("pins", now.pins.join(","), "");
  put("steer", [...now.strengths].filter(([n, by]) => by !== 0 && now.pins.includes(n)).map(([n, by]) => `${n}:${by}`).join(","), "");
  put("scope", now.scope, "text");
  put("by", now.by, "mean");
  if (now.range) put("at", now.range.join("-"), "");
  for (const [name, usual] of [["mode", "add"], ["tokens", 40], ["temperature", 0], ["seed", 0], ["prompt", ""]]) put(name, now[name], usual);
  if (now.text.length <= LONGEST_ADDRESS) put("text", now.text, "");
  const address = String(kept);
  if (address !== location.hash.slice(1)) history.replaceState(null, "", `#${address}`);
}

// --- the server ---

class Refused extends Error {}
class Gone extends Error {}

function tell(sentence, isWrong = true) {
  state.hidden = !sentence;
  state.className = isWrong ? "missing wrong" : "missing";
  state.textContent = sentence || "";
}

async function ask(path, body, signal) {
  let answer;
  try {
    answer = await fetch(`api/${path}`, body === undefined ? { signal } : {
      method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone();
  }
  if (answer.status === 403) throw new Refused();
  if (answer.status === 413) throw new Error("This is more than the server takes: leave some out.");
  return answer;
}

async function* events(path, body, signal) {
  const answer = await ask(path, body, signal);
  const reader = answer.body.getReader(), decoder = new TextDecoder();
  let unread = "", ended = false;
  while (true) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Gone();
    }
    if (part.done) break;
    unread += decoder.decode(part.value, { stream: true });
    const lines = unread.split("\n");
    unread = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.error) throw new Error(event.error);
      ended = "whole" in event || "done" in event;
      yield event;
    }
  }
  if (!ended) throw new Gone();
}

// Does something with the server. When that has gone it is waited for, and the thing is done anew.
async function withServer(what) {
  for (;;) {
    try {
      const done = await what();
      tell("");
      return done;
    } catch (error) {
      if (error.name === "AbortError") return undefined;
      if (error instanceof Refused) {
        tell("The server has another token now: open the address that it printed. What you typed stands in the address of this page, behind the #.");
        return undefined;
      }
      if (!(error instanceof Gone)) {
        tell(error.message);
        return undefined;
      }
      tell("The server does not answer. It is asked again every second; nothing on this page is lost.");
      await back();
    }
  }
}

let coming = null;

function back() {
  coming ||= (async () => {
    for (;;) {
      await new Promise((go) => setTimeout(go, 1000));
      try {
        const { served } = await (await ask("alive")).json();
        if (served !== FACTS.served) location.reload(); // another dictionary: what was typed stands in the address
        return;
      } catch (error) {
        if (error instanceof Refused) return;
      }
    }
  })().finally(() => { coming = null; });
  return coming;
}

// --- what is known of latents ---

const known = new Map();

function learn(some) {
  for (const one of some) known.set(one.latent, { ...known.get(one.latent), ...one });
}

function splitOf(latent) {
  return (known.get(latent) || {}).split || "";
}

// An explanation, the words it is held over, the tokens where it is strongest, or at least those in this text.
function said(latent) {
  const one = known.get(latent);
  if (!one) return [];
  if (one.explanation) return [one.explanation];
  if (one.words.length) return [inRow(one.words.slice(0, 5))];
  const tokens = one.tokens.length ? one.tokens : (here.get(latent) || []).map(([, text]) => text);
  return tokens.slice(0, 4).flatMap((text) => [word(text), " "]);
}

function hue(latent) {
  const place = now.pins.indexOf(latent);
  return place < 0 ? null : `--own: ${HUES[place]}`;
}
