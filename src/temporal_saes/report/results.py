"""What was measured on a run: the evaluation table, the probing figure and table; beside other runs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command.progress import n_of
from dictionary_learning.texts.names import slug
from temporal_saes.experiment.names import OfData, dataset_name
from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element, join, missing
from temporal_saes.report.run_files import RunFiles

EVALUATE = "python dictionary_learning/dictionary_learning/eval_temporal.py"
PROBE = "python src/experiments/probing.py"
TASKS = ("semantics", "syntax", "context")

HIGHER, LOWER = "higher is better", "lower is better"
# split, measure, name, how to read it
MEASURES = (
    ("all", "fve_global", "FVE, global", f"share of the variance explained, over all tokens; {HIGHER}"),
    (
        "all",
        "fve_context_mean",
        "FVE, mean over contexts",
        f"the same in each context, as papers do; {HIGHER}",
    ),
    ("high", "fve_context_mean", "… by high-level latents alone", "the higher, the more they carry"),
    ("low", "fve_context_mean", "… by low-level latents alone", "the higher, the more they carry"),
    ("all", "cosine", "cosine", f"between activation and reconstruction; {HIGHER}"),
    ("all", "l0", "L0", "latents that fire at a token; meant to be k, lower is sparser"),
    ("high", "l0", "… of them high-level", "near 0 the group has fallen silent"),
    ("low", "l0", "… of them low-level", "the rest of L0"),
    ("all", "alive", "alive", f"share of latents that fired at all; {HIGHER}, and grows with the tokens"),
    (
        "all",
        "smoothness_lipschitz",
        "smoothness, all latents",
        "change of a latent by change of x; lower is smoother",
    ),
    ("high", "smoothness_lipschitz", "… high-level", f"{LOWER}: these are meant to be steady"),
    ("low", "smoothness_lipschitz", "… low-level", "no aim: these may follow single words"),
    (
        "all",
        "loss_recovered",
        "cross-entropy recovered",
        f"1: the model reads x̂ as well as x, 0: as badly as zeros; {HIGHER}",
    ),
)
MORE_MEASURES = (
    *(
        (split, f"smoothness_{name}", f"{label}, {split}", "lower is smoother")
        for name, label in (
            ("total_variation", "total variation"),
            ("fourier", "Fourier, high / low frequencies"),
            ("wavelet", "wavelet, detail / coarse"),
            ("multiscale", "multiscale, fine / coarse"),
        )
        for split in ("all", "high", "low")
    ),
    ("all", "l2_ratio", "length of x̂ / length of x", "1 is best"),
    ("all", "relative_bias", "relative bias", "1 is best; below, reconstructions are too short"),
    ("all", "l0_context", "L0 of a context", "latents that fire anywhere in a context"),
    ("all", "loss_clean", "cross-entropy with x", "nats a token"),
    ("all", "loss_reconstructed", "cross-entropy with x̂", f"nats a token; {LOWER}"),
    ("all", "loss_ablated", "cross-entropy with zeros", "nats a token"),
)


# --- evaluation ---


def _no_evaluation(run: RunFiles) -> Html:
    if run.buffer.get("dataset") is None:
        return missing(
            f"{run.name} does not say which texts it was trained on, so none are known that it did not see. "
            "This evaluates it on texts of yours; the results lie beside the weights and are not shown here:",
            f"{EVALUATE} {run.flags} --dataset texts.jsonl --part all",
        )
    return missing(
        f"{run.name} has no evaluation of its present weights. This makes it:", f"{EVALUATE} {run.flags}"
    )


def evaluation_section(runs: Sequence[RunFiles]) -> list[Html | None]:
    """Measures on documents that training did not see: a row a measure, a column a run."""
    found = [run for run in runs if run.evaluation is not None]
    lacking = [_no_evaluation(run) for run in runs if run.evaluation is None]
    title = element("h2", "Evaluation")
    if not found:
        return [title, *lacking]
    headers = ["measure", *(join([run.name, element("span", run.method, class_="aid")]) for run in found)]
    results = [run.evaluation for run in found if run.evaluation is not None]
    counted = [
        _plain_row(
            "text tokens", "what all but cross-entropy is measured on", [r.get("tokens") for r in results]
        ),
        _plain_row(
            "predicted tokens",
            "what cross-entropy is measured on",
            [_measure(result, "all", "loss_clean").get("predictions") for result in results],
        ),
    ]
    rows = [*_rows(results, MEASURES), *counted]
    more = list(_rows(results, MORE_MEASURES))
    caption = "Documents that training did not see; x is an activation, x̂ its reconstruction."
    return [
        title,
        page.table(headers, rows, caption),
        element(
            "details",
            element("summary", "More measures, and the formulas"),
            page.table(headers, more, "Other families of smoothness, and what goes into the measures above."),
            _formulas(results),
        ),
        *lacking,
    ]


def _rows(
    results: Sequence[Mapping[str, Any]], measures: Sequence[tuple[str, str, str, str]]
) -> Iterator[list]:
    """A row for each measure that any run has."""
    for split, name, label, aid in measures:
        cells = [_measure(result, split, name) for result in results]
        if any(cells):
            yield _plain_row(label, aid, [cell.get("value") for cell in cells])


def _plain_row(label: str, aid: str, values: Sequence[float | None]) -> list[object]:
    return [join([label, element("span", aid, class_="aid")]), *map(number, values)]


def _measure(result: Mapping[str, Any], split: str, name: str) -> Mapping[str, Any]:
    return (result["measures"].get(split) or {}).get(name) or {}


def _formulas(results: Sequence[Mapping[str, Any]]) -> Html:
    formulas = {
        name: measure["formula"]
        for result in results
        for measures in result["measures"].values()
        for name, measure in measures.items()
        if measure.get("formula")
    }
    masks = next((result["masks"] for result in results if result.get("masks")), None)
    return element("div", page.facts(formulas.items()), element("p", f"Masks: {masks}.") if masks else None)


def number(value: float | None) -> str:
    """Three digits of a measure or more, all digits of a count, a dash for what was not measured."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    decimals = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.3g}" if 0 < size < 0.01 else f"{value:,.{decimals}f}"


# --- probing ---


def probing_section(runs: Sequence[RunFiles], baseline: Sequence[dict[str, Any]]) -> list[Html | None]:
    """The figure, and test accuracies with their intervals: a row a task and a subject."""
    run = runs[0]
    title = element("h2", "Probing")
    lacking = [
        missing(
            f"{other.name} has no probes of its present weights. These make them:",
            *(
                f"{PROBE} {other.flags} --chunk {chunk}"
                for chunk in ((0, 1) if len(_splits(other)) > 1 else (2,))
            ),
        )
        for other in runs
        if not other.probing
    ]
    if not run.probing:
        return [title, *lacking]
    results = [result for other in runs for result in other.probing] + list(baseline)
    dataset = run.probing[0]["options"].get("dataset")
    others = sorted({str(result["options"].get("dataset")) for result in results} - {str(dataset)})
    results = [result for result in results if result["options"].get("dataset") == dataset]
    path = probing_figure(run.folder, results)
    figure = None
    if path is not None:
        figure = page.image(
            path.read_bytes(), "png", _alt(results), f"Test accuracy on {dataset}.", wide=True
        )
    tasks = [task for task in TASKS if any(task in result["tasks"] for result in results)]
    return [
        title,
        element(
            "p",
            "What a few latents tell: a logistic regression on the k latents a class that differ most for it "
            "predicts the domain of a text (semantics), the part of speech of a token (syntax), or which "
            f"text a token is from (context). {HIGHER.capitalize()}; chance is one over the number of "
            "classes, majority always says the most frequent class.",
        ),
        figure,
        *(_probing_table(task, results) for task in tasks),
        element("p", f"Not shown: probes on {', '.join(others)}.", class_="quiet") if others else None,
        element("p", f"Interval: {run.probing[0].get('interval')}.", class_="quiet"),
        *lacking,
    ]


def _splits(run: RunFiles) -> list[int]:
    return run.trainer.get("group_sizes") or []


def probing_figure(run_folder: Path, results: Sequence[dict[str, Any]]) -> Path | None:
    """The figure with most of these results: that of a comparison, or the run's own; the newest of equals.

    A comparison's file is named after the data set and the subjects in it, joined by underscores.
    """
    names = [slug(result["name"]) for result in results]
    texts = dataset_name(OfData(**{name: results[0]["options"].get(name) for name in OfData._fields}))

    def shown(path: Path) -> int:
        return sum(bool(re.search(rf"(^|_){re.escape(name)}(_|$)", path.stem)) for name in names)

    def figures_in(folder: Path) -> list[Path]:
        pooled = re.compile(r"_pool([a-z]+|\d+)$")
        found = [path for path in folder.glob("*.png") if not pooled.search(path.stem)]
        return [path for path in found if path.stem.startswith(f"{texts}_")]

    comparisons = sorted(
        figures_in(run_folder.parent / "comparisons" / "probing"), key=lambda path: path.stat().st_mtime
    )
    own = slug(results[0]["name"])
    comparisons = [path for path in comparisons if re.search(rf"(^|_){re.escape(own)}(_|$)", path.stem)]
    if comparisons:
        return max(reversed(comparisons), key=shown)
    return next(iter(sorted(figures_in(run_folder / "probing"))), None)


def _alt(results: Sequence[dict[str, Any]]) -> str:
    names = ", ".join(result["name"] for result in results)
    return f"Test accuracy by number of latents a class, a panel a task, for {names}; see the tables."


def _probing_table(task: str, results: Sequence[dict[str, Any]]) -> Html:
    having = [result for result in results if task in result["tasks"]]
    ks = list(dict.fromkeys(str(one["k"]) for result in having for one in result["tasks"][task]["accuracy"]))
    rows = []
    differing = _differing(having)
    for result in having:
        numbers = result["tasks"][task]
        accuracy = {str(one["k"]): one for one in numbers["accuracy"]}
        cells = [_accuracy(accuracy.get(k)) for k in ks]
        told = [f"{numbers[name]:.3f}" for name in ("majority", "chance")]
        rows.append([_subject(result, differing), *cells, *told])
    first = having[0]["tasks"][task]
    sizes = (
        f"{first['n_classes']} classes, {first['n_train']:,} training and "
        f"{n_of(first['n_test'], 'test example')}"
    )
    headers = ["latents a class", *ks, "majority", "chance"]
    return page.table(headers, rows, f"{task.capitalize()}: test accuracy with its 95 % interval; {sizes}.")


def _differing(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """By what else than its columns some rows of the table differ: options, or where activations are from."""
    asked = [_asked(result) for result in results]
    names = dict.fromkeys(name for one in asked for name in one)
    return [name for name in names if len({str(one.get(name)) for one in asked}) > 1]


def _asked(result: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in result["options"].items() if name not in ("k", "tasks")}
    subject = {name: result["subject"].get(name) for name in ("model", "layer", "site", "context_length")}
    return {**options, **subject}


def _subject(result: Mapping[str, Any], differing: Sequence[str]) -> str:
    """What a row is of, with all that tells it from rows of the same run.

    Args:
        differing: as `_differing` says it of the whole table.
    """
    subject = result["subject"]
    if subject.get("trainer_folder") is None:
        parts = ["dense activations"]
    else:
        chunk = {0: "high-level", 1: "low-level", 2: "all latents"}.get(subject.get("chunk"))
        parts = [str(subject.get("run_name", result["name"])), str(chunk)]
        parts += [f"threshold {subject['threshold']}"] if subject.get("threshold") else []
    asked = _asked(result)
    parts += [f"{name} {asked[name]}" for name in differing if asked.get(name) is not None]
    return ", ".join(parts)


def _accuracy(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "–"
    half = "" if one.get("high") is None else f" ± {one['high'] - one['mean']:.3f}"
    return f"{one['mean']:.3f}{half}"
