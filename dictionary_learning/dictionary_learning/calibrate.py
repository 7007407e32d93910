"""Set an inference threshold for other texts than those of the training.

    python -m dictionary_learning.calibrate --run_name mine --dataset texts.jsonl --name news
    python dictionary_learning/dictionary_learning/eval_temporal.py --run_name mine --threshold news

BatchTopK, Matryoshka BatchTopK and T-SAE keep in inference what exceeds one number, which training sets so
that the mean L0 on its own texts is k. Here the same is done for another data set, read with the run's own
model, layer and tokenisation. The threshold is written to the run's `trainer_0/thresholds.json`; the
weights stay as they are. docs/threshold.md says when it matters. Under torchrun the processes share the
texts.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.options import Parser, add_options, build
from dictionary_learning.command.processes import add_timeout, check_alike, is_first, together
from dictionary_learning.command.secrets import scrub_text, scrub_values
from dictionary_learning.errors import UserError
from dictionary_learning.evaluation.options import CalibrationOptions
from dictionary_learning.evaluation.setting import resolve
from dictionary_learning.remote.path import path_of
from dictionary_learning.runs.provenance import versions

if TYPE_CHECKING:
    from torch import Tensor

    from dictionary_learning.evaluation.setting import Setting
    from dictionary_learning.evaluation.study import Study
    from dictionary_learning.trainers.threshold import ThresholdDictionary

CODE_BYTES = 2**27  # of one dense block of latents
_NOT_ASKED = ("compare", "threshold", "lm_loss", "loss_tokens", "output_dir")


def parser() -> Parser:
    made = Parser(description=__doc__)
    add_timeout(made)
    add_options(made, CalibrationOptions, _NOT_ASKED)
    return made


def main(argv: list[str] | None = None) -> None:
    typed = vars(parser().parse_args(argv))
    with together(typed.pop("timeout")):
        check_alike({"flags": scrub_values(typed), "versions": versions()})
        print(calibrate(build(CalibrationOptions, typed)))


def calibrate(options: CalibrationOptions) -> str:
    """Set the threshold, write it beside the weights, and say in one line what it is.

    Several processes set it together, and the first one writes it.

    Raises:
        UserError: a run, texts, a model or a layer that are not there or do not fit; a dictionary that infers
            without a threshold, or needs none on these texts; a folder that is not ours to write to.
    """
    from dictionary_learning import distributed
    from dictionary_learning.evaluation.study import Study
    from dictionary_learning.exchange import thresholds
    from dictionary_learning.exchange.loading import find_run, load_dictionary, weights_sha256
    from dictionary_learning.trainers.threshold import find_threshold

    assert options.name is not None
    assert options.dataset is not None
    thresholds.check_name(options.name)
    run = find_run(options.runs[0], options.checkpoints_path, options.trainer)
    folder = run.dictionary
    if not folder.is_relative_to(run.results):
        raise UserError(
            f"{options.runs[0]} lies in the cache of the hub, where no threshold can be written: copy "
            f"{folder} and give the copy as --run_name."
        )
    loaded, config = load_dictionary(folder, options.device, options.checkpoint)
    dictionary = thresholds.check_has_threshold(loaded, folder)
    k = options.k or int(dictionary.k)
    if not 0 < k < dictionary.dict_size:
        raise UserError(f"--k {k} does not fit: the dictionary has {dictionary.dict_size} latents.")
    thresholds.read(folder)  # a damaged file is told before anything is slow
    if is_first():
        check_writable(folder, "--checkpoints_path")
    sha256 = weights_sha256(folder, options.checkpoint)
    check_alike({"weights of the dictionary": sha256[:12]})
    setting = resolve(options, config, folder)
    study = Study(options)
    study.check(dictionary, setting, config.get("buffer") or {})

    n_active = 0

    def blocks() -> Iterator["Tensor"]:
        nonlocal n_active
        for x_BD in _tokens(study, dictionary, setting):
            n_active += int((dictionary.before_selection(x_BD) > dictionary.threshold).sum())
            yield x_BD

    found = find_threshold(dictionary, blocks(), k)
    if found is None:
        raise UserError(
            f"no more than {k} latents a token are above 0 on {options.dataset}, so that no threshold is "
            "needed there: give a smaller --k or more text."
        )
    entry = thresholds.Entry(
        threshold=found.threshold,
        l0=found.l0,
        k=k,
        tokens=found.tokens,
        dataset=scrub_text(setting.dataset),
        weights_sha256=sha256,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    n_active = distributed.total_count(n_active)
    path = thresholds.save(folder, options.name, entry) if is_first() else folder
    return (
        f"{options.name}: threshold {found.threshold:.4g} with L0 {found.l0:.2f} over {found.tokens:,} "
        f"tokens of {path_of(options.dataset).name}; the trained one, {float(dictionary.threshold):.4g}, has "
        f"L0 {n_active / found.tokens:.2f} there.\nwritten: {path}"
    )


def _tokens(study: "Study", dictionary: "ThresholdDictionary", setting: "Setting") -> Iterator["Tensor"]:
    """The usable tokens' activations [B, D], in blocks whose dense codes fit into memory."""
    weight = next(dictionary.parameters())
    rows = max(1, CODE_BYTES // (weight.itemsize * dictionary.dict_size))
    for batch in study.contexts(dictionary, setting):
        for x_BD in batch.x_NLD[batch.mask_NL].split(rows):
            yield x_BD.to(weight.device, weight.dtype)


if __name__ == "__main__":
    cli.run(main)
