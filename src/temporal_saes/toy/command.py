"""A toy corpus with known features: which dictionaries find them, and tell slow ones from fast ones.

    python src/experiments/toy_features.py --output_dir runs/toy
    python src/experiments/toy_features.py --seeds 0 1 2 3 4 --methods tsae matryoshka --stretch 8

Topics of hidden Markov chains last for a stretch of tokens and turn on slow features, with a hierarchy of
domains above them; words are drawn anew at every token and turn on fast features and their kinds'. All have
Zipf's frequencies, and directions in superposition. Dictionaries are trained on the activations in the way in
which they are on a language model's, and held against the truth, on texts they were not trained on:

truths found   MCC, the mean cosine of each truth with its latent, one to one; precision, recall and F1 of
               that latent's firing, and the AUC of its activation
slow and fast  whether the latents of slow truths are in the high-level group, or in the predicted codes of a
               TemporalSAE; what can be read off either part by a linear probe; and how well the persistence
               of a latent alone tells whether its truth is slow, which takes no groups

What needs no learning stands beside them: the activations, the mean of the earlier tokens, and recall. Each
of --seeds is a world, a corpus and first weights of its own, and intervals are over them. Writes
<output_dir>/toy_features.json with all options and scores of every seed, and the figure beside it (PNG, PDF).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from dictionary_learning.command.devices import find_device
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.options import Parser, add_options, build
from dictionary_learning.command.progress import n_of
from dictionary_learning.command.rehearsal import about_to
from temporal_saes.experiment.command import print_files
from temporal_saes.toy.options import ToyOptions
from temporal_saes.toy.result import minus_first, over_seeds, table

EXPERIMENT = "toy_features"


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, ToyOptions)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Train and score all methods on the worlds of all seeds.

    Raises:
        UserError: a mistake in the options, before anything is trained.
    """
    options = build(ToyOptions, vars(parser().parse_args(argv)))
    folder = Path(options.output_dir)
    check_writable(folder, "--output_dir")
    find_device(options.device)
    about_to(
        f"train {n_of(len(options.methods), 'dictionary')} for each of {n_of(len(options.seeds), 'seed')}"
    )

    from dictionary_learning.runs.provenance import provenance
    from temporal_saes.experiment.intervals import as_json, mean_interval
    from temporal_saes.experiment.results import save_json
    from temporal_saes.toy.figure import draw
    from temporal_saes.toy.study import study

    seeds = [study(options, seed) for seed in options.seeds]
    result = {
        "experiment": EXPERIMENT,
        "options": dataclasses.asdict(options),
        "mean": over_seeds(seeds),
        "chance_mcc": as_json(mean_interval([one["chance_mcc"] for one in seeds])),
        "minus_first": minus_first(seeds),
        "of_seeds": seeds,
        "provenance": provenance(),
    }
    path = folder / EXPERIMENT
    save_json(path, result, indent=2)
    print(table(result))
    print_files([path.with_suffix(".json"), *draw(result, path)])
