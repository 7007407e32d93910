"""The experiments that claims are judged by, and how each is asked."""

from typing import NamedTuple

GROUPED = ("tsae", "tsae_strength_0", "matryoshka")
PREDICTING = ("tfa", "tfa_paper_start")


class Experiment(NamedTuple):
    """A command of temporal-saes."""

    command: str
    flags: tuple[str, ...]
    methods: tuple[str, ...]  # that it is asked of: those that a row reads
    reads_all_seeds: bool = False  # of a run, by itself
    reads_activations: bool = True  # the language model's own, too
    reads_controls: bool = False  # and the means that nobody trained


_JOINED = ("--n_texts", "60")  # texts; more of them narrow the interval over texts alone
# of the demo's texts 62 have as many tokens as a context
_LONG_TEXTS = "60"
_STEERING = ("--n_latents", "4", "--strengths", "0", "1", "2", "--max_texts", "440", "--max_new_tokens", "30")
EXPERIMENTS = {
    "probing": Experiment("probe", (), methods=GROUPED),
    "similarity": Experiment(
        "similarity", _JOINED, methods=(*GROUPED, *PREDICTING, "batch_top_k"), reads_controls=True
    ),
    "similarity_shuffled": Experiment(
        "similarity",
        (*_JOINED, "--word_order", "shuffled"),
        methods=("tsae", *PREDICTING),
        reads_controls=True,
    ),
    "temporal_geometry": Experiment(
        "geometry", ("--n_texts", _LONG_TEXTS), methods=PREDICTING, reads_controls=True
    ),
    # what is never off has nothing to switch
    "sequence_interpretability": Experiment(
        "sequence", _JOINED, methods=(*GROUPED, *PREDICTING), reads_activations=False
    ),
    "garden_paths": Experiment("garden-paths", (), methods=(*GROUPED, *PREDICTING), reads_controls=True),
    "alignment_study": Experiment("align", (), methods=GROUPED, reads_activations=False),
    "persistence": Experiment(
        "persistence", ("--n_texts", "150"), methods=GROUPED, reads_all_seeds=True, reads_activations=False
    ),
    "steering_add": Experiment(
        "steer", ("--mode", "add", *_STEERING), methods=GROUPED, reads_activations=False
    ),
    "steering_clamp": Experiment(
        "steer", ("--mode", "clamp", *_STEERING), methods=GROUPED, reads_activations=False
    ),
}
"""By the name under which a plan asks for them; each writes its results as always."""
