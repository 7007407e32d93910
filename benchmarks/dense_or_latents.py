"""Why dense activations are below a T-SAE's latents in one probe and above them in another.

    python benchmarks/dense_or_latents.py --checkpoints_path runs/demo

A probe of a text's class on ten features a class, of the T-SAE's high-level latents, of the Matryoshka SAE's
and of the activations. What may decide is changed one by one: whether features are chosen in their own units
or in standard deviations, whether they may be lower in the class, how many tokens are averaged, and the
texts: the demo's extracts (eleven classes) and AG News (three classes, from the wheel of sae-probes). `all`
takes every feature, so that nothing is chosen. What is finished is not done again.

Writes benchmarks/results/dense_or_latents.json and .md.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from machine import machine_facts

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from dictionary_learning.command import cli
from dictionary_learning.command.files import save_text
from temporal_saes.labelled.data import load_labelled
from temporal_saes.probing import command as probing

RESULTS = Path(__file__).parent / "results" / "dense_or_latents"
SETTINGS = {
    "as usual": (),
    "chosen in standard deviations": ("--scale_choice",),
    "higher in the class only": ("--direction", "higher"),
    "either way": ("--direction", "either"),
    "16 tokens averaged": ("--pool", "16"),
    "16 tokens averaged, chosen in standard deviations": ("--pool", "16", "--scale_choice"),
}
CHOOSING_NOTHING = ("as usual", "16 tokens averaged")
"""Those that differ where all features are taken."""
NEWS = {"139_news_class_Politics": "0", "140_news_class_Technology": "1", "141_news_class_Entertainment": "2"}


def write_news(path: Path) -> Path:
    """AG News: the texts that are of the class in each of three one-against-the-rest sets."""
    records = [
        {"text": text.text, "label": label}
        for name, label in NEWS.items()
        for text in load_labelled(f"sae-probes:{name}")
        if text.label == "1"
    ]
    save_text(path, "".join(json.dumps(record) + "\n" for record in records))
    return path


def main(argv: list[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--checkpoints_path", type=Path, required=True, help="folder with the runs")
    flags.add_argument("--runs", nargs="+", default=["tsae:0", "matryoshka:0"], help="runs, or run:chunk")
    flags.add_argument("--output_dir", type=Path, help="folder of the results (default: in that of the runs)")
    flags.add_argument("--n_train", type=int, default=1500)
    flags.add_argument("--n_test", type=int, default=500)
    flags.add_argument("--repeats", type=int, default=5)
    flags.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    flags.add_argument("--out", type=Path, default=RESULTS, help="path of the results without a suffix")
    args = flags.parse_args(argv)
    folder = args.output_dir or args.checkpoints_path / "dense_or_latents"
    news = write_news(folder / "news.jsonl")
    texts = {"extracts": ["--dataset", "demo"], "news": ["--dataset", str(news), "--label_field", "label"]}
    found: dict[str, dict[str, Any]] = {}
    for name, data in texts.items():
        for setting in args.settings:
            words = [
                "--compare",
                *args.runs,
                "baseline_model",
                "--checkpoints_path",
                str(args.checkpoints_path),
            ]
            words += [*data, "--tasks", "semantics", "--k", "10", "all", "--n_train", str(args.n_train)]
            words += ["--n_test", str(args.n_test), "--repeats", str(args.repeats), *SETTINGS[setting]]
            into = folder / name / setting.replace(", ", "_").replace(" ", "_")
            probing.main([*words, "--output_dir", str(into)])
            found.setdefault(name, {})[setting] = read(into)
    asked = {key: value for key, value in vars(args).items() if not isinstance(value, Path)}
    content = {"machine": machine_facts(), "settings": asked, "found": found}
    save_text(args.out.with_suffix(".json"), json.dumps(content, indent=1) + "\n")
    save_text(args.out.with_suffix(".md"), markdown(found))
    print(markdown(found))


def read(folder: Path) -> dict[str, Any]:
    """Accuracies of each subject, by k, with what blind guessing reaches."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        task = content["tasks"]["semantics"]
        accuracies = {str(one["k"]): [one["mean"], one["low"], one["high"]] for one in task["accuracy"]}
        found[content["name"]] = {
            "accuracy": accuracies,
            "majority": task["majority"],
            "chance": task["chance"],
        }
    return found


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """A row a setting, a column a subject, for ten features a class and for all."""
    first = next(iter(next(iter(found.values())).values()))
    names = sorted(first, key=lambda name: name == "baseline_model")
    shown = ["dense activations" if name == "baseline_model" else name for name in names]
    lines = ["| texts, features | " + " | ".join(shown) + " |", "|---" * (1 + len(names)) + "|"]
    for texts, settings in found.items():
        for k in ("10", "all"):
            for setting, subjects in settings.items():
                if k == "all" and setting not in CHOOSING_NOTHING:
                    continue
                cells = []
                for name in names:
                    mean, _, high = subjects[name]["accuracy"][k]
                    cells.append(f"{mean:.3f}" if high is None else f"{mean:.3f} ± {high - mean:.3f}")
                many = "10 a class" if k == "10" else "all"
                lines.append(f"| {texts}, {many}, {setting} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main)
