"""What `temporal-saes controls` does: dictionaries without learning (`ContextMean`), written as runs.

All they need of the training texts is the mean, and for recall how sharp it should be.

Shapes: N texts, L positions, D model width.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.activations.store import Store
from dictionary_learning.command.progress import TokenProgress, say
from dictionary_learning.dictionaries.context_mean import ContextMean
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.data import buffer_config, check_devices, open_activations
from dictionary_learning.jobs.options import ControlOptions
from dictionary_learning.remote.mirror import folder_at
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.provenance import provenance

if TYPE_CHECKING:
    from dictionary_learning.activations.block import Contexts

SHARPNESS = (1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0)
_TEXTS = 16  # at a time


class Control(NamedTuple):
    """One that is asked for."""

    name: str
    """Of its run."""
    kind: str
    is_centred: bool
    """Whether the corpus mean is taken away first."""


def asked(options: ControlOptions) -> list[Control]:
    """The controls that the options ask for; around its own mean the corpus mean says nothing."""
    suffix = "_fitted" if options.fit_length else ""
    return [
        Control(f"{kind}{'_centred' if bias == 'mean' else ''}{suffix}", kind, bias == "mean")
        for kind in options.controls
        for bias in options.bias
        if not (kind == "corpus_mean" and bias == "mean")
    ]


def write(options: ControlOptions) -> list[RunFolder]:
    """Write a run for each control; returns their folders.

    Raises:
        UserError: nothing is asked for, a run is there already, or the activations cannot be read.
    """
    controls = asked(options)
    if not controls:
        raise UserError(
            "--controls corpus_mean with --bias mean leaves nothing: the corpus mean around itself is zero, "
            "so give --bias zero."
        )
    check_devices(options)
    runs = [RunFolder(folder_at(options.checkpoints_path) / control.name) for control in controls]
    with ExitStack() as held:
        for run in runs:
            held.enter_context(run.alone(is_new=True))
            run.check_new()
        store = open_activations(options)
        mean_D = corpus_mean(store)
        for control, run in zip(controls, runs, strict=True):
            dictionary, facts = fit(store, control, mean_D, options)
            _save(run, dictionary, facts, options, store.config)
            say(f"{control.name}: {run.path}, {_told(facts)}")
    return runs


def corpus_mean(store: Store) -> Tensor:
    """The mean [D] of the usable tokens."""
    total_D, n = torch.zeros(store.d_model, dtype=torch.float64), 0
    progress: TokenProgress | None = None
    for batch in store.contexts(_TEXTS):
        progress = progress or TokenProgress(store.statistics.n_tokens, 0, "corpus mean")
        x_TD = batch.x_NLD[batch.mask_NL].double()
        total_D += x_TD.sum(0).cpu()
        n += len(x_TD)
        progress.add(len(x_TD))
    if progress is not None:
        progress.close()
    return (total_D / n).float()


def fit(
    store: Store, control: Control, mean_D: Tensor, options: ControlOptions
) -> tuple[ContextMean, dict[str, Any]]:
    """The control's dictionary, and what was found out for it."""
    b_D = mean_D if control.is_centred else torch.zeros_like(mean_D)
    if control.kind != "recall":
        constant_D = mean_D if control.kind == "corpus_mean" else None
        made = ContextMean(b_D, control.kind, constant_D=constant_D, fits_length=options.fit_length)
        return made, {}
    tried = [
        ContextMean(b_D, "recall", sharpness=sharpness, fits_length=options.fit_length)
        for sharpness in SHARPNESS
    ]
    missed = missed_shares(tried, _some_texts(store.contexts(_TEXTS), options.fit_tokens))
    best = min(range(len(tried)), key=missed.__getitem__)
    return tried[best], {
        "sharpness": SHARPNESS[best],
        "missed_at_sharpness": dict(zip(map(str, SHARPNESS), missed, strict=True)),
    }


@torch.no_grad()
def missed_shares(dictionaries: list[ContextMean], texts: Iterable[Sequences]) -> list[float]:
    """Of each, Σ‖x - b - predicted‖² / Σ‖x - b‖²."""
    left, whole = [0.0] * len(dictionaries), [0.0] * len(dictionaries)
    for some in texts:
        x_NLD = some.padded()
        for i, dictionary in enumerate(dictionaries):
            centred_TD = some.x_TD - dictionary.b
            predicted_TD = some.tokens(dictionary.predicted(x_NLD))
            left[i] += float((centred_TD - predicted_TD).double().square().sum())
            whole[i] += float(centred_TD.double().square().sum())
    return [a / b for a, b in zip(left, whole, strict=True)]


def _some_texts(batches: "Iterator[Contexts]", n_tokens: int) -> Iterator[Sequences]:
    """The first texts, with so many tokens or a few more."""
    n = 0
    for batch in batches:
        if n >= n_tokens:
            return
        texts = Sequences.of(batch.x_NLD.float().cpu(), batch.mask_NL.cpu())
        n += len(texts)
        yield texts


def _save(
    run: RunFolder,
    dictionary: ContextMean,
    facts: Mapping[str, Any],
    options: ControlOptions,
    store_config: Mapping[str, Any],
) -> None:
    trainer = {
        "trainer_class": None,
        "dict_class": type(dictionary).__name__,
        "activation_dim": dictionary.activation_dim,
        "dict_size": dictionary.dict_size,
        "layer": options.layer,
        "lm_name": options.model,
        "submodule_name": options.place.submodule_name,
        "context_length": options.context_length,
        **dictionary.architecture,
        **facts,
        "finished": True,
    }
    run.create()
    run.write_config({"preset": None, "options": asdict(options), **provenance()})
    run.save_weights(0, dictionary.state_dict())
    run.save_trainer(0, {"trainer": trainer, "buffer": buffer_config(options, store_config)})


def _told(facts: Mapping[str, Any]) -> str:
    return f"sharpness {facts['sharpness']:g}" if "sharpness" in facts else "nothing to choose"
