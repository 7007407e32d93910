"""The page about a run, put together: options, sections, the coloured text, the foot."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from dictionary_learning.command.devices import find_device
from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.runs.provenance import provenance, scrub
from dictionary_learning.texts.encoding import read_text
from temporal_saes.experiment.options import ExperimentOptions
from temporal_saes.experiment.subjects import resolve
from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element, missing
from temporal_saes.pages.text_latents import Part, Shown, join_parts, look, opening, two_documents
from temporal_saes.pages.token_colours import legend, panel, whole_text_steadiness
from temporal_saes.report.overview import overview
from temporal_saes.report.results import evaluation_section, probing_section
from temporal_saes.report.run_files import RunFiles, read_baseline_probing
from temporal_saes.report.training_curves import curves_section

COMMAND = "python -m temporal_saes.report"


@dataclass(frozen=True)
class ReportOptions:
    """What the page is about.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    run_name: str | None = option(None, "the run", group="run")
    compare: tuple[str, ...] = option((), "other runs to show beside it", group="run")
    checkpoints_path: str = option(
        "runs", "folder of the runs", group="run", spellings=("save_path", "save_checkpoints")
    )
    trainer: int = option(0, "which trainer of each run: trainer_<i>", group="run")
    text: str | None = option(
        None, "text to colour in place of two held-out documents", group="coloured text"
    )
    text_file: str | None = option(None, "file with the text to colour", group="coloured text")
    held_out_texts: int = option(
        100, "held-out paragraphs among which each latent's strongest tokens are found", group="coloured text"
    )
    lm_batch_size: int = option(16, "texts the language model reads at a time", group="machine")
    device: str | None = option(
        None, "cpu, cuda, cuda:1 or mps; the best there is if not given", group="machine"
    )
    output: str | None = option(
        None, "file to write; report.html in the run's folder if not given", group="result"
    )

    def __post_init__(self) -> None:
        if self.run_name is None:
            raise UserError(f"--run_name is missing: give a run in {self.checkpoints_path}.")
        names = (self.run_name, *self.compare)
        if len(set(names)) < len(names):
            raise UserError(f"--compare {' '.join(self.compare)} names a run twice: leave one out.")
        if self.text is not None and self.text_file is not None:
            raise UserError("--text and --text_file are both given: leave one out.")
        for name, least in (("held_out_texts", 0), ("lm_batch_size", 1), ("trainer", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} is {getattr(self, name)}, and must be at least {least}.")


def parser() -> Parser:
    """The command line."""
    from temporal_saes import report

    made = Parser(description=report.__doc__, prog=COMMAND)
    add_options(made, ReportOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Write the page.

    Raises:
        UserError: a run is not there or damaged, the text cannot be read, the file cannot be written.
    """
    words = sys.argv[1:] if argv is None else argv
    options = build(ReportOptions, vars(parser().parse_args(words)))
    text = given_text(options)
    find_device(options.device)
    names = [str(options.run_name), *options.compare]
    runs = [RunFiles.read(options.checkpoints_path, name, options.trainer) for name in names]
    output = Path(options.output) if options.output else runs[0].folder / "report.html"
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: give the name of a file in it.")
    check_writable(output.parent, "--output")
    save_text(output, report(runs, options, text, shlex.join(scrub([*COMMAND.split(), *words]))))
    say(f"written: {output}")


def given_text(options: ReportOptions) -> str | None:
    """The text of --text or --text_file; None if neither is given.

    Raises:
        UserError: there is no such file, or nothing in it that can be read.
    """
    text = options.text
    if options.text_file is not None:
        text = read_text(options.text_file, f"--text_file {options.text_file}")
    if text is not None and not text.strip():
        raise UserError("the text to colour is empty: give one with words in it.")
    return text


def report(runs: Sequence[RunFiles], options: ReportOptions, text: str | None, command: str) -> str:
    """The page about the first run, with the others beside it.

    Args:
        text: to colour; None takes two held-out documents.
        command: the command line that asked for it.
    """
    run = runs[0]
    body = [
        *overview(run),
        *curves_section(runs),
        *evaluation_section(runs),
        *probing_section(runs, read_baseline_probing(options.checkpoints_path, run)),
        *tokens_section(run, options, text),
        *foot(runs, command),
    ]
    return page.page(f"{run.name} ({run.method})", body)


# --- the coloured text ---


def tokens_section(run: RunFiles, options: ReportOptions, text: str | None) -> list[Html | None]:
    """The same text several times, coloured by high-level and by low-level latents side by side."""
    title = element("h2", "Latents on a text")
    try:
        shown = latents_on_text(run, options, text)
    except UserError as error:
        return [title, missing(f"The coloured text is left out: {error}")]
    by_split: dict[str, list[Html]] = {}
    for latent in shown.latents:
        by_split.setdefault(latent.split, []).append(panel(shown, latent))
    side_by_side = [one for row in zip_longest(*by_split.values()) for one in row if one is not None]
    return [
        title,
        element("p", _rule(shown)),
        element("p", whole_text_steadiness(shown)),
        _not_read(shown),
        element("div", *side_by_side, class_="panels"),
        legend(),
        *_origins(shown.parts),
    ]


def latents_on_text(run: RunFiles, options: ReportOptions, text: str | None) -> Shown:
    """Choose the latents of the run to show on `text`, or on two of its held-out documents.

    Raises:
        UserError: the weights, the language model or (without `text`) the documents cannot be had.
    """
    from dictionary_learning.language_model import LanguageModel
    from temporal_saes.features import extract_features
    from temporal_saes.report.held_out import held_out_records, some_paragraphs

    asked = ExperimentOptions(
        run_name=run.name,
        checkpoints_path=options.checkpoints_path,
        trainer=options.trainer,
        chunk=2,
        lm_batch_size=options.lm_batch_size,
        cache=False,
    )
    subject = resolve(asked)
    field = run.buffer.get("text_field") or "text"
    try:
        records = held_out_records(run.buffer, field)
    except UserError:
        if text is None:
            raise
        records = []
    chosen = two_documents(records) if text is None else []
    lm = LanguageModel.load(subject.model, device=options.device, dtype=subject.lm_dtype, layer=subject.layer)
    lm.truncate(subject.layer)
    parts = [opening(lm, document, field, subject.context_length) for document in chosen]
    if text is not None:
        parts = [Part(text, "the given text", None, None)]
    others = [record for record in records if all(record is not one for one in chosen)]
    texts = [join_parts(parts)[0], *some_paragraphs(others, field, options.held_out_texts)]
    dictionary = subject.load_dictionary(lm.device)
    assert dictionary is not None
    features = extract_features(
        texts,
        lm,
        subject.layer,
        subject.reading(asked),
        dictionary,
    )
    return look(parts, features, texts, dictionary.splits() or {"latents": slice(0, dictionary.dict_size)})


def _rule(shown: Shown) -> str:
    groups = " and of the ".join(
        {"high": "high-level", "low": "low-level"}.get(s, s) for s in shown.steadiness
    )
    groups = "latents" if groups == "latents" else f"{groups} latents"
    if len(shown.parts) > 1:
        rule = (
            f"Two held-out documents of different domains, joined. Of the {groups}, the one is shown for "
            "each document whose mean activation there exceeds that on the other document most."
        )
    else:
        rule = (
            f"Of the {groups}, the two are shown whose mean activation on the text exceeds that on held-out "
            f"texts ({shown.n_held_out:,} tokens) most."
        )
    return (
        f"{rule} The rule does not look at the order of tokens, so steady and flickering latents are "
        "equally likely to be shown."
    )


def _not_read(shown: Shown) -> Html | None:
    end = max((stop for _, stop in shown.tokens.offsets), default=0)
    if end >= len(shown.text.rstrip()):
        return None
    return element(
        "p", f"Read are its first {len(shown.tokens.offsets):,} tokens, as many as a context holds."
    )


def _origins(parts: Sequence[Part]) -> list[Html]:
    """Where the texts are from, as the licence of Wikipedia asks for."""
    linked = [part for part in parts if part.source and part.source.startswith(("http://", "https://"))]
    if not linked:
        return []
    children: list[object] = ["The texts are the beginnings of "]
    for i, part in enumerate(linked):
        children += [" and " if i else None, element("a", part.title, href=part.source)]
    return [element("p", *children, ".", class_="quiet")]


# --- the foot ---


def foot(runs: Sequence[RunFiles], command: str) -> list[Html | None]:
    """The commands that made all this, and the licences of what it was made from."""
    now = provenance()
    return [
        element("h2", "How this page was made"),
        page.commands([*dict.fromkeys(chain.from_iterable(map(_commands_of, runs))), command]),
        element("p", f"Written {now['started']}, git revision {now['git_revision']}.", class_="quiet"),
        *_licences(runs),
    ]


def _commands_of(run: RunFiles) -> list[str]:
    made: list[dict[str, Any]] = [run.config, *run.config.get("resumed", [])]
    results = [result for result in (run.evaluation, *run.probing) if result is not None]
    made += [result.get("provenance") or {} for result in results]
    return [one["command"] for one in made if one.get("command")]


def _licences(runs: Sequence[RunFiles]) -> list[Html]:
    used = {run.model for run in runs} | {run.buffer.get("dataset") for run in runs}
    used |= {result["options"].get("dataset") for run in runs for result in run.probing}
    if not used & {"demo", "demo-extracts"}:
        return []

    def link(text: str, address: str) -> Html:
        return element("a", text, href=address)

    return [
        element(
            "p",
            "The demo's parts: SmolLM2-135M-Instruct by Hugging Face under the ",
            link("Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
            "; texts of English Wikipedia by its contributors under ",
            link("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"),
            ", cut to their running text; State of the Union addresses, in the public domain. What is "
            "quoted from Wikipedia on this page stands under the same licence.",
            class_="quiet",
        )
    ]
