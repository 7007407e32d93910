"""The command `temporal-saes`: every sub-command is the `main(argv)` of a script of the documents.

temporal-saes train --config demo
temporal-saes check train --config demo    # all that can fail before the language model is read
python -m temporal_saes train --config demo
"""

import difflib
import importlib
import sys
from typing import NamedTuple, NoReturn

from dictionary_learning.command import cli, program, rehearsal


class Command(NamedTuple):
    """A sub-command: the module with its `main(argv)`, and what it is for."""

    module: str
    what: str


COMMANDS: dict[str, dict[str, Command]] = {
    "train": {
        "train": Command("dictionary_learning.train_temporal", "a T-SAE"),
        "train-baseline": Command(
            "dictionary_learning.train_baseline", "an SAE to compare with: Matryoshka, BatchTopK, TopK, ..."
        ),
        "train-attention": Command(
            "dictionary_learning.train_attention", "a TemporalSAE: predicted and novel codes"
        ),
        "controls": Command(
            "dictionary_learning.jobs.controls",
            "means of corpus and earlier tokens, to hold predicted codes against",
        ),
        "cache": Command(
            "dictionary_learning.cache_activations", "run the language model once for many trainings"
        ),
    },
    "measure": {
        "calibrate": Command("dictionary_learning.calibrate", "the inference threshold for other texts"),
        "eval": Command("dictionary_learning.eval_temporal", "reconstruction, smoothness, cost to the model"),
        "probe": Command("temporal_saes.probing.command", "what can be read from the latents"),
        "tsne": Command("temporal_saes.maps.command", "maps of tokens by their features"),
        "sequence": Command("temporal_saes.sequences.command", "latents along joined passages"),
        "similarity": Command(
            "temporal_saes.similarity.command", "where a code sees a text change its subject"
        ),
        "garden-paths": Command(
            "temporal_saes.garden_paths.command", "which reading of a sentence codes see at its end"
        ),
        "geometry": Command(
            "temporal_saes.geometry.command", "dimension, bends and speed of the activations"
        ),
        "persistence": Command(
            "temporal_saes.persistence.command", "how long latents stay on, and which come back over seeds"
        ),
        "toy": Command(
            "temporal_saes.toy.command", "which dictionaries find known features, and tell slow from fast"
        ),
        "align": Command(
            "temporal_saes.alignment.command", "latents that tell preferred answers from rejected"
        ),
        "steer": Command("temporal_saes.steering.command", "what pushing a latent does to what is written"),
        "name": Command(
            "temporal_saes.naming.command", "the words, titles and classes that latents are held over"
        ),
        "autointerp": Command("temporal_saes.autointerp.command", "explain latents in words, and score that"),
    },
    "look and share": {
        "explore": Command(
            "temporal_saes.explorer.command", "a page on which texts are read and steered, live"
        ),
        "browse": Command("temporal_saes.browser.command", "a folder of pages on which latents are searched"),
        "report": Command("temporal_saes.report.command", "one page about a run"),
        "table": Command("temporal_saes.method_table.command", "all results in one table"),
        "upload": Command("temporal_saes.upload.command", "a browser's latents to a Neuronpedia"),
        "convert": Command("dictionary_learning.convert", "to and from SAELens, the hub, and others"),
    },
}
ALL = {name: command for group in COMMANDS.values() for name, command in group.items()}


def usage() -> str:
    """The page of `temporal-saes --help`."""
    lines = ["Temporal SAEs: features of language models that follow meaning over time.", ""]
    lines += ["usage: temporal-saes [check] COMMAND [FLAGS]", ""]
    for group, commands in COMMANDS.items():
        lines.append(f"{group}:")
        lines += [f"  {name:<16} {command.what}" for name, command in commands.items()]
        lines.append("")
    lines += [
        "temporal-saes COMMAND --help lists the flags of a command, with a line to begin with.",
        "temporal-saes check COMMAND FLAGS finds mistakes at once: it does all that the command does before",
        "the language model is read or a file is written, and stops there.",
        "",
        "To begin, without a GPU or the hub:",
        "  temporal-saes train --config demo --run_name first",
        "  temporal-saes eval --run_name first",
        "  temporal-saes probe --run_name first --chunk 0",
        "  temporal-saes report --run_name first",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Run a sub-command.

    Raises:
        UserError: as the sub-command's `main`.
        SystemExit: an unknown sub-command (2), or after `--help` (0).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    check = words[:1] == ["check"]
    if check:
        words = words[1:]
    if words[:1] == ["help"] and len(words) > 1:
        words = [words[1], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return
    name, *flags = words
    name = name.replace("_", "-")
    if name not in ALL:
        _unknown(words[0])
    program.start_as("temporal-saes", name)
    command = importlib.import_module(ALL[name].module)
    if not check:
        command.main(flags)
        return
    try:
        with rehearsal.rehearsing():
            command.main(flags)
    except rehearsal.Reached as step:
        print(f"nothing is wrong up to here; the next step would be to {step}.")


def _unknown(word: str) -> NoReturn:
    near = difflib.get_close_matches(word.replace("_", "-"), ALL, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(ALL)}."
    print(f"error: there is no command {word!r}: {hint} (see temporal-saes --help)", file=sys.stderr)
    sys.exit(2)


def run() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    run()
