"""SAEBench's automated interpretability to `explanations.json`, and what it does not explain.

    python src/process_sae_bench_autointerp.py --results eval_results/my_sae_eval_results.json
    python src/process_sae_bench_autointerp.py --results first.json second.json --output explanations.json

Reads the result JSON of SAEBench's `autointerp` evaluation (0.6; `eval_result_unstructured`) and writes
one explanation a latent, as every experiment here takes them with --explanation_path. Of several results
for the same dictionary the later one wins. SAEBench explains a random sample of the living latents, so most
latents of a large dictionary are missing: how many, and which of them are known to be dead, is printed.
"""

from dataclasses import dataclass
from pathlib import Path

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.errors import UserError
from temporal_saes.autointerp.sae_bench import read_result, report
from temporal_saes.latents.explanations import FILE_NAME, save_explanations


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


if __name__ == "__main__":
    cli.run(main)
