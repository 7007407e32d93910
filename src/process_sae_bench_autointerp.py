"""SAEBench's automated interpretability to `explanations.json`, and what it does not explain.

    python src/process_sae_bench_autointerp.py --results eval_results/my_sae_eval_results.json
    python src/process_sae_bench_autointerp.py --results first.json second.json --output explanations.json

Reads the result JSON of SAEBench's `autointerp` evaluation (0.6; `eval_result_unstructured`) and writes
one explanation a latent, as every experiment here takes them with --explanation_path. Of several results
for the same dictionary the later one wins. SAEBench explains a random sample of the living latents, so most
latents of a large dictionary are missing: how many, and which of them are known to be dead, is printed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.errors import UserError
from temporal_saes.latents.explanations import (
    FILE_NAME,
    check_latents,
    latent_number,
    read_json,
    save_explanations,
)

KEY = "eval_result_unstructured"
SHOWN = 20


@dataclass(frozen=True)
class ConversionOptions:
    """What is converted."""

    results: tuple[str, ...] = option((), "result files of SAEBench's autointerp evaluation")
    output: str | None = option(None, "file to write; explanations.json beside the first result if not given")
    dict_size: int | None = option(
        None, "latents of the dictionary, where the result does not say (sae_cfg_dict.d_sae)"
    )

    def __post_init__(self) -> None:
        if not self.results:
            raise UserError("--results is missing: give a result file of SAEBench's autointerp evaluation.")
        if self.dict_size is not None and self.dict_size < 1:
            raise UserError(f"--dict_size {self.dict_size} is too small: give the number of latents.")


class Result(NamedTuple):
    """What one file says."""

    explanations: dict[int, str]
    unexplained: list[int]  # asked about, without an explanation
    dead: int | None  # latents that are known not to have fired enough; None where that cannot be told
    dict_size: int | None


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, ConversionOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Convert one result, or several of the same dictionary.

    Raises:
        UserError: a file is not there, is no such result, or the results are of different dictionaries.
    """
    options = build(ConversionOptions, vars(parser().parse_args(argv)))
    output = Path(options.output) if options.output else Path(options.results[0]).parent / FILE_NAME
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: give the name of a file in it.")
    check_writable(output.parent, "--output")
    results = [read_result(Path(path), options.dict_size) for path in options.results]
    sizes = {result.dict_size for result in results if result.dict_size is not None}
    if len(sizes) > 1:
        raise UserError(
            f"--results are of dictionaries with {', '.join(map(str, sorted(sizes)))} latents: convert each "
            f"by itself."
        )
    explanations: dict[int, str] = {}
    for result in results:
        explanations |= result.explanations
    save_explanations(output, explanations)
    for line in report(explanations, results, next(iter(sizes), None)):
        print(line)
    print(output)


def read_result(path: Path, dict_size: int | None = None) -> Result:
    """The explanations of one result file.

    Args:
        dict_size: latents of the dictionary, in place of what the file says.

    Raises:
        UserError: it is no result of SAEBench's autointerp, or has a latent beyond the dictionary.
    """
    content = read_json(path)
    found = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise UserError(
            f"{path} is no result of SAEBench's autointerp evaluation (it has no {KEY}): give the file that "
            f"ends in _eval_results.json."
        )
    entries = {latent_number(key, path): entry for key, entry in found.items()}
    explained = {latent: str(entry.get("explanation") or "").strip() for latent, entry in entries.items()}
    dict_size = dict_size or _size(content)
    check_latents(explained, dict_size, path)
    asked, dead = _asked(content, entries, dict_size)
    explanations = {latent: text for latent, text in explained.items() if text}
    return Result(explanations, sorted(asked - explanations.keys()), dead, dict_size)


def _size(content: Mapping[str, Any]) -> int | None:
    config = content.get("sae_cfg_dict")
    size = config.get("d_sae") if isinstance(config, dict) else None
    return size if isinstance(size, int) else None


def _asked(
    content: Mapping[str, Any], entries: Mapping[int, Any], dict_size: int | None
) -> tuple[set[int], int | None]:
    """The latents that were to be explained as far as the file tells, and how many are dead.

    SAEBench takes the latents of `override_latents`, or `n_latents` at random among those that fire more
    than `dead_latent_threshold` times. Where there are fewer than that it takes all of them, so the rest
    of the dictionary is dead; otherwise a latent that is not there may simply not have been drawn.
    """
    config = content.get("eval_config")
    config = config if isinstance(config, dict) else {}
    given, wanted = config.get("override_latents"), config.get("n_latents")
    if isinstance(given, list):
        return set(entries) | {latent for latent in given if isinstance(latent, int)}, None
    if isinstance(wanted, int) and len(entries) < wanted and dict_size is not None:
        return set(entries), dict_size - len(entries)
    return set(entries), None


def report(explanations: Mapping[int, str], results: Sequence[Result], dict_size: int | None) -> list[str]:
    """What is explained and what is not, in lines for a person."""
    of = "" if dict_size is None else f" of {dict_size:,} latents"
    lines = [f"{len(explanations):,}{of} have an explanation."]
    if dict_size is None:
        lines[0] += " How many are missing is not known: give --dict_size."
    elif missing := dict_size - len(explanations):
        dead = [result.dead for result in results if result.dead is not None]
        why = (
            f"{min(dead):,} of them fired too rarely to be explained (dead)"
            if dead
            else "SAEBench did not draw them, or they are dead: its result does not say which"
        )
        lines.append(f"{missing:,} are missing: {why}.")
    failed = sorted({latent for result in results for latent in result.unexplained} - explanations.keys())
    if failed:
        shown = ", ".join(map(str, failed[:SHOWN])) + (", ..." if len(failed) > SHOWN else "")
        lines.append(f"{len(failed):,} were asked about and got no explanation: {shown}.")
    return lines


if __name__ == "__main__":
    cli.run(main)
