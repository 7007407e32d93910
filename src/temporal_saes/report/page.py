"""The page about a run, put together: its sections and the foot."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from dictionary_learning.runs.provenance import provenance
from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element
from temporal_saes.report.coloured_text import tokens_section
from temporal_saes.report.latent_names import names_section
from temporal_saes.report.options import ReportOptions
from temporal_saes.report.overview import overview
from temporal_saes.report.results import evaluation_section, probing_section
from temporal_saes.report.run_files import RunFiles, read_baseline_probing
from temporal_saes.report.training_curves import curves_section


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
        *names_section(run),
        *tokens_section(run, options, text),
        *foot(runs, command),
    ]
    return page.page(f"{run.name} ({run.method})", body)


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
    results = [result for result in (run.evaluation, *run.probing, run.naming) if result is not None]
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
