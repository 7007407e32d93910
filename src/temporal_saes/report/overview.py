"""What was trained on what: the head of the page, in names that a newcomer can read."""

from collections.abc import Sequence
from typing import Any

from dictionary_learning.command import figures
from dictionary_learning.command.progress import n_of
from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element
from temporal_saes.report.run_files import RunFiles

DEMO_NAMES = {
    "model": {"demo": "SmolLM2-135M-Instruct (demo)", "demo-gemma": "Gemma 3 270M (demo-gemma)"},
    "dataset": {
        "demo": "whole Wikipedia articles and State of the Union addresses (demo)",
        "demo-extracts": "lead sections of Wikipedia articles (demo-extracts)",
    },
}


def overview(run: RunFiles) -> list[Html | None]:
    """Title, what this is for a newcomer, what was trained on what, and every option."""
    trainer, buffer, config = run.trainer, run.buffer, run.config
    own = config.get("options") or {}
    last = run.metrics[-1] if run.metrics else {}
    machine = config.get("machine") or {}
    versions = config.get("versions") or {}
    told = [
        ("language model", _demo_name("model", run.model)),
        ("activations", _activations(run)),
        ("dictionary", f"{run.method} ({trainer.get('dict_class')})"),
        ("latents (F)", _latents(run)),
        ("latents a token (k)", trainer.get("k")),
        ("temporal term", _temporal_term(run)),
        ("texts", _demo_name("dataset", buffer.get("dataset"))),
        ("text tokens used", _text_tokens(buffer)),
        (f"{_unit(run)} trained on", _count(last.get("tokens"))),
        ("passes over the texts", None if last.get("epoch") is None else _passes(last["epoch"])),
        ("steps", _steps(run)),
        ("training time", _duration(last)),
        ("seed", trainer.get("seed")),
        ("inference L0 on training tokens", _decimal(trainer.get("calibration_l0"))),
        ("machine", _machine(machine, trainer)),
        ("software", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("git revision", config.get("git_revision")),
        ("started", config.get("started")),
    ]
    every = [(name, _shown(value)) for name, value in {**own, **trainer}.items()]
    return [
        element("h1", f"{run.name}: a {run.method} on {_demo_name('model', run.model)}{_layer(run)}"),
        element(
            "p",
            "A sparse autoencoder rewrites each activation of a language model, the vector it holds at a "
            "token, as a sum of a few of thousands of learnt directions, the latents, many of which stand "
            "for something a person can name. A Temporal SAE (",
            element("a", "arXiv 2511.05541", href="https://arxiv.org/abs/2511.05541"),
            ") teaches a first group of them, the high-level latents, to stay alike from one token to the "
            "next, so that they follow what a passage is about, while the low-level rest is free to follow "
            "single words.",
        ),
        _not_temporal(run),
        page.facts(told),
        element("details", element("summary", "Every option"), _options_table(every)),
    ]


def _not_temporal(run: RunFiles) -> Html | None:
    if run.trainer.get("temporal") or run.method not in figures.METHOD_COLOURS or run.method == "TFA":
        return None
    return element("p", f"This run is a {run.method} dictionary, trained without that temporal term.")


def _options_table(pairs: Sequence[tuple[str, str]]) -> Html:
    caption = "Options of the run, and what its trainer recorded."
    return page.table(["option", "value"], pairs, caption, worded=(1,))


def _demo_name(kind: str, name: object) -> str:
    return DEMO_NAMES[kind].get(str(name), str(name)) if name is not None else "unknown"


def _layer(run: RunFiles) -> str:
    return "" if run.place is None or run.place.layer is None else f", {run.place}"


def _activations(run: RunFiles) -> str:
    length = run.buffer.get("context_length") or run.buffer.get("ctx_len")
    parts = [run.place.description] if run.place is not None else []
    parts += [f"width {run.trainer['activation_dim']:,}"] if run.trainer.get("activation_dim") else []
    parts += [f"contexts of {length} tokens"] if length else []
    return ", ".join(parts)


def _latents(run: RunFiles) -> str:
    size, sizes = run.trainer.get("dict_size"), run.trainer.get("group_sizes")
    if size is None:
        return "unknown"
    if not sizes or len(sizes) < 2:
        return f"{size:,}"
    return f"{size:,}: {sizes[0]:,} high-level, {' and '.join(f'{n:,}' for n in sizes[1:])} low-level"


def _temporal_term(run: RunFiles) -> str | None:
    trainer = run.trainer
    if not trainer.get("temporal"):
        return None
    kind = "contrastive" if trainer.get("contrastive") else "L1 similarity"
    pairs = run.buffer.get("pair_mode")
    parts = [f"{kind}, strength {trainer.get('temp_alpha')}"]
    parts += [f"temperature {trainer['temperature']}"] if trainer.get("temperature") else []
    parts += [f"form of the {trainer['form']}"] if trainer.get("form") else []
    which = {"previous": "the previous token", "sentence": "a random earlier token of the sentence"}
    parts += [f"pairs with {which.get(pairs, 'a random earlier token')}"] if pairs else []
    parts += ["no negatives of the same text"] if trainer.get("negatives") == "other_texts" else []
    return ", ".join(parts)


def _text_tokens(buffer: dict[str, Any]) -> str | None:
    limit, share = buffer.get("max_tokens"), buffer.get("eval_share")
    parts = [f"at most {limit:,}"] if limit else []
    parts += [f"{share:.0%} of the documents kept out for evaluation"] if share else []
    return ", ".join(parts) or None


def _steps(run: RunFiles) -> str | None:
    steps, done = run.trainer.get("steps"), run.trainer.get("steps_done")
    if steps is None:
        return None
    batch = run.buffer.get("out_batch_size")
    size = f" of {batch:,} {_unit(run)}" if batch else ""
    return f"{steps:,}{size}" if done in (None, steps) else f"{done:,} of {steps:,}{size}, not finished"


def _unit(run: RunFiles) -> str:
    return "pairs" if run.trainer.get("temporal") else "tokens"


def _count(value: object) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None


def _passes(epoch: int) -> str:
    return "within the first" if epoch == 0 else f"{epoch} whole, and a part of another"


def _duration(last: dict[str, Any]) -> str | None:
    seconds, tokens = last.get("seconds"), last.get("tokens")
    if seconds is None:
        return None
    speed = f", {tokens / seconds:,.0f} a second" if tokens and seconds else ""
    return (f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min") + speed


def _decimal(value: object) -> str | None:
    return f"{value:.2f}" if isinstance(value, float) else None


def _machine(machine: dict[str, Any], trainer: dict[str, Any]) -> str:
    parts = [machine.get("accelerator"), machine.get("processor"), machine.get("system")]
    parts.append(n_of(machine["cores"], "core") if machine.get("cores") else None)
    parts.append(f"trained on {trainer['device']}" if trainer.get("device") else None)
    return ", ".join(str(part) for part in parts if part)


def _shown(value: object) -> str:
    return (
        " ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
    )
