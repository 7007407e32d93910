"""How good dictionaries are: reconstruction, sparsity, smoothness, and what they cost the language model.

Every figure is made from sums over the whole evaluation set in float64, divided once, and comes with
its formula and with how many tokens (contexts, predictions) are in it. What is undefined is None.

Several dictionaries of the same activations are evaluated together: what does not depend on the dictionary is
computed once (sums over the activations, the language model up to the layer, its clean and its ablated loss).
Several processes evaluate together, each some of the contexts: the sums are those over all of them.

Shapes: N contexts of a batch, L positions, n usable tokens of a batch, D model width, F latents.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.activations.block import Contexts, UnmaskedContexts
from dictionary_learning.activations.store import Numbered
from dictionary_learning.command.devices import own_defaults
from dictionary_learning.dictionaries.base import Dictionary, check_width
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.errors import UserError
from dictionary_learning.evaluation.activity import Activity
from dictionary_learning.evaluation.decoding import Decoder
from dictionary_learning.evaluation.formulas import FORMULAS, MASKS, Measure, measure
from dictionary_learning.evaluation.library_keys import flat_keys
from dictionary_learning.evaluation.reconstruction import Parts, Reconstruction
from dictionary_learning.evaluation.target import Target
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.cross_entropy import CrossEntropy
from dictionary_learning.language_model.places import Place
from dictionary_learning.smoothness import SmoothnessMean, smoothness_of_entries

POSITIONS_ON_A_CPU = 2048  # more at a time are no faster, and what is made of them leaves the cache


def evaluate(dictionary: Dictionary, contexts: Iterable[Contexts], **options: Any) -> dict[str, Any]:
    """Evaluate a dictionary on contexts of raw activations: `evaluate_together` of one."""
    return evaluate_together({"": dictionary}, _numbered(contexts), **options)[""]


def _numbered(contexts: Iterable[Contexts]) -> Iterator[Numbered]:
    n_before = 0
    for number, batch in enumerate(contexts):
        yield Numbered(number, n_before, batch)
        n_before += int(batch.mask_NL.sum())


@own_defaults()
@torch.no_grad()
def evaluate_together(
    dictionaries: Mapping[str, Dictionary],
    batches: Iterable[Numbered],
    *,
    lm: LanguageModel | None = None,
    layer: int | Place | None = None,
    loss_tokens: int | None = None,
    memory_bytes: int = 2**29,
    watch_loss: Callable[[int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Evaluate dictionaries of the same raw activations.

    Args:
        dictionaries: by name; each works on raw activations, and its device and dtype are used.
        batches: of whole contexts, such as `Store.numbered_contexts` gives them: of several processes each
            has batches of its own. A dictionary that reads sequences sees the usable tokens of each context
            one behind another (`sequences.py`).
        lm: the language model the activations are from; without one there is no cross-entropy.
        layer: the decoder layer after which they were recorded, or the place in one.
        loss_tokens: cross-entropy ends with the batch that reaches so many usable tokens of the corpus; None
            takes all.
        memory_bytes: for codes and for logits, each; at least one context is done at a time.
        watch_loss: gets the number of tokens whose cross-entropy this process has measured, as it grows.

    Returns:
        of each dictionary `measures`: {"all" or split: {name: {"value", "formula", "tokens" (or "contexts",
        or "predictions"), "left_out"}}} with the names of `FORMULAS`; `tokens`, `contexts`, `masks`; and
        the flat keys of dictionary_learning's eval_results.json.

    Raises:
        UserError: a dictionary has another width than the activations, there is no usable token, or a
            dictionary gives numbers that are not finite.
    """
    assert (lm is None) == (layer is None), "cross-entropy is measured with a language model and a layer"
    loss = None
    if lm is not None and layer is not None:
        loss = CrossEntropy(lm, layer, dictionaries, memory_bytes, watch_loss)
        for dictionary in dictionaries.values():
            check_width(dictionary, lm)
    found = {name: _Evaluation(dictionary, name) for name, dictionary in dictionaries.items()}
    longest = 0
    for _, n_before, batch in batches:
        has_loss = loss is not None and (loss_tokens is None or n_before < loss_tokens)
        for some in _that_fit(batch, dictionaries, memory_bytes):
            longest = max(longest, some.mask_NL.shape[1])
            x_hats = _add(found, some)
            if loss is not None and has_loss:
                x_NLD = some.unmasked_NLD if isinstance(some, UnmaskedContexts) else None
                loss.add(some.tokens_NL, some.mask_NL, x_hats, x_NLD)
    longest = int(distributed.largest(torch.tensor(longest)))
    if loss is not None:
        loss.over_processes()
    for evaluation in found.values():
        evaluation.over_processes()
    return {
        name: evaluation.results({} if loss is None else _of_loss(loss, name), longest)
        for name, evaluation in found.items()
    }


class _Evaluation:
    """Sums over one dictionary."""

    def __init__(self, dictionary: Dictionary, name: str) -> None:
        self.dictionary = dictionary.eval()
        self.name = name
        if not all(bool(torch.isfinite(weight).all()) for weight in dictionary.parameters()):
            raise self._not_finite()
        self.decoder = Decoder(dictionary)
        self.reconstruction = {split: Reconstruction() for split in self.decoder.splits}
        self.activity = Activity()
        self.parts = Parts(list(dictionary.splits()))
        self.smooth = SmoothnessMean()

    def add(self, target: Target) -> Tensor:
        """Add the tokens of a batch; their reconstruction [n, D].

        On a card everything is asked for before a value is read: the host waits for it once.
        """
        code = self._encode(target)
        parts = self.decoder.parts(code)
        x_hat_of_split = {
            split: (self.decoder.nothing_D + part_nD).to(target.x_nD.dtype)
            for split, part_nD in parts.items()
        }
        is_finite = torch.isfinite(x_hat_of_split["all"]).all()
        for split, x_hat_nD in x_hat_of_split.items():
            self.reconstruction[split].add(target, x_hat_nD)
        if self.parts.splits:
            self.parts.add(parts)
        self.activity.add(code, target)
        if not bool(is_finite):
            raise self._not_finite()
        self._add_smoothness(code, target)
        return x_hat_of_split["all"]

    def over_processes(self) -> None:
        """Turn the sums into those over all processes."""
        for reconstruction in self.reconstruction.values():
            reconstruction.over_processes()
        self.activity.over_processes()
        self.parts.over_processes()
        self.smooth.over_processes()

    def _add_smoothness(self, code: SparseCode, target: Target) -> None:
        splits = self.dictionary.splits()
        values_N, row_N, col_N = (
            tensor.cpu().numpy() for tensor in (code.values_N.float(), code.row_N, code.col_N)
        )
        if code.values_N.device.type != "cpu":  # where entries are emptied, not dropped
            fires_N = values_N != 0
            values_N, row_N, col_N = values_N[fires_N], row_N[fires_N], col_N[fires_N]
        first_C = np.cumsum([0, *target.counts])
        entry_C = np.searchsorted(row_N, first_C)
        for context, step_T in enumerate(target.step_lengths):
            of_text = slice(entry_C[context], entry_C[context + 1])
            row_T = row_N[of_text] - first_C[context]
            self.smooth.add(
                smoothness_of_entries(values_N[of_text], row_T, col_N[of_text], code.n_cols, step_T, splits)
            )

    def _encode(self, target: Target) -> SparseCode:
        width = target.x_nD.shape[1]
        if width != self.dictionary.activation_dim:
            raise UserError(
                f"the dictionary takes activations of width {self.dictionary.activation_dim}, and these have "
                f"width {width}: choose the model and layer that it was trained on."
            )
        if not self.dictionary.reads_sequences:
            return self.dictionary.encode_entries(target.x_nD)
        texts = target.texts
        return SparseCode.of(texts.tokens(self.dictionary.encode(texts.padded())))

    def _not_finite(self) -> UserError:
        which = f"the dictionary {self.name}" if self.name else "the dictionary"
        return UserError(
            f"{which} gives reconstructions that are not finite: its weights are damaged, or it was "
            "trained on another model or layer."
        )

    def results(self, losses: Mapping[str, Measure], longest: int) -> dict[str, Any]:
        """The figures, with their formulas.

        Args:
            losses: those of the language model, where they were measured.
            longest: positions of the longest context.

        Raises:
            UserError: there was no token.
        """
        if not self.activity.tokens:
            raise UserError("there is no usable token to evaluate on: give more text.")
        measures: dict[str, dict[str, Measure]] = {}
        smooth = self.smooth.mean()
        for split, part in self.decoder.splits.items():
            measures[split] = (
                self.reconstruction[split].measures()
                | self.activity.measures(part)
                | self.parts.measures(split)
                | {
                    f"smoothness_{metric}": measure(mean.value, contexts=mean.texts, left_out=mean.left_out)
                    for metric, mean in smooth[split].items()
                }
            )
        measures["all"] |= losses
        for of_split in measures.values():
            for key, found in of_split.items():
                found["formula"] = FORMULAS[key]
        return {
            "tokens": self.activity.tokens,
            "contexts": self.activity.contexts,
            "masks": MASKS,
            "measures": measures,
        } | flat_keys(measures, self.activity.contexts, longest)


def _add(found: Mapping[str, _Evaluation], batch: Contexts) -> dict[str, Tensor]:
    """Add the tokens of a batch to the sums of every dictionary; the reconstructions [n, D]."""
    targets: dict[tuple[torch.device, torch.dtype], Target] = {}
    x_hats = {}
    for name, evaluation in found.items():
        weight = next(evaluation.dictionary.parameters())
        kind = (weight.device, weight.dtype)
        if kind not in targets:
            targets[kind] = Target(batch, *kind)
        x_hats[name] = evaluation.add(targets[kind])
    return x_hats


def _of_loss(loss: CrossEntropy, name: str) -> dict[str, Measure]:
    return {key: measure(value, predictions=loss.predictions) for key, value in loss.means(name).items()}


def _that_fit(
    batch: Contexts, dictionaries: Mapping[str, Dictionary], memory_bytes: int
) -> Iterator[Contexts]:
    """The same contexts in batches whose codes fit; those without a usable token are dropped."""
    # a code in which every latent is active takes some twenty bytes a latent
    positions = memory_bytes // (16 * max(dictionary.dict_size for dictionary in dictionaries.values()))
    if batch.x_NLD.device.type == "cpu":
        positions = min(positions, POSITIONS_ON_A_CPU)
    mask_NL = batch.mask_NL.cpu()
    used_N = mask_NL.any(1).nonzero().flatten()
    for some_N in used_N.split(max(1, positions // mask_NL.shape[1])):
        if len(some_N):
            length = int(mask_NL[some_N].any(0).nonzero().max()) + 1
            yield batch.part(some_N, length)
