"""The experiments that claims are judged by, and how each is asked."""

from typing import NamedTuple

HIGH_LEVEL = ("tsae:0", "tsae_strength_0:0", "matryoshka:0")
PREDICTED = ("tfa:0", "tfa_paper_start:0")
BOTH_PARTS = ("tfa:0", "tfa:1", "tfa_paper_start:0", "tfa_paper_start:1")


class Experiment(NamedTuple):
    """A command of temporal-saes."""

    command: str
    flags: tuple[str, ...]
    subjects: tuple[str, ...]  # method:chunk, what a row reads
    reads_all_seeds: bool = False  # of a run, by itself
    reads_activations: bool = True  # the language model's own, too
    reads_controls: bool = False  # and the means that nobody trained


_JOINED = ("--n_texts", "60")  # texts; more of them narrow the interval over texts alone
# of the demo's texts 62 have as many tokens as a context
_LONG_TEXTS = "60"
_STEERING = ("--n_latents", "4", "--strengths", "0", "1", "2", "--max_texts", "440", "--max_new_tokens", "30")
EXPERIMENTS = {
    "probing": Experiment("probe", (), (*HIGH_LEVEL, "tsae:1")),
    "similarity": Experiment(
        "similarity", _JOINED, (*HIGH_LEVEL, *BOTH_PARTS, "batch_top_k:2"), reads_controls=True
    ),
    "similarity_shuffled": Experiment(
        "similarity",
        (*_JOINED, "--word_order", "shuffled"),
        ("tsae:0", *PREDICTED),
        reads_controls=True,
    ),
    "temporal_geometry": Experiment("geometry", ("--n_texts", _LONG_TEXTS), BOTH_PARTS, reads_controls=True),
    # what is never off has nothing to switch
    "sequence_interpretability": Experiment(
        "sequence", _JOINED, (*HIGH_LEVEL, *BOTH_PARTS), reads_activations=False
    ),
    "garden_paths": Experiment("garden-paths", (), (*HIGH_LEVEL, *BOTH_PARTS), reads_controls=True),
    "alignment_study": Experiment("align", (), HIGH_LEVEL, reads_activations=False),
    "persistence": Experiment(
        "persistence",
        ("--n_texts", "150"),
        (*HIGH_LEVEL, "tsae:1"),
        reads_all_seeds=True,
        reads_activations=False,
    ),
    "steering_add": Experiment("steer", ("--mode", "add", *_STEERING), HIGH_LEVEL, reads_activations=False),
    "steering_clamp": Experiment(
        "steer", ("--mode", "clamp", *_STEERING), HIGH_LEVEL, reads_activations=False
    ),
}
"""By the name under which a plan asks for them; each writes its results as always."""
