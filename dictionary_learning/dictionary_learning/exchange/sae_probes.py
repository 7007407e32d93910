"""What `run_sae_evals` of sae-probes needs: a SAELens folder, and the activations that it records otherwise.

    <folder>/saelens/                                        the dictionary
    <folder>/model_activations_<model>/<set>_<hook>.pt       [N, D] of the last token of every record

sae-probes records with TransformerLens, which knows some models by name and fetches them from the hub. Files
that are there it takes as they are. These are of the plain transformers model, as the dictionary's training
read it: contexts of its length, its BOS or none, and no special token behind the text.

Shapes: N records of a set, B of a batch, L tokens, D model width.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dictionary_learning.command.files import save_tensors
from dictionary_learning.command.progress import LoopProgress
from dictionary_learning.dictionaries.base import Dictionary, check_width
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import names, saelens
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.places import Place
from dictionary_learning.language_model.tokens import encode, pad
from dictionary_learning.texts.records import read_records
from dictionary_learning.texts.sae_probes import PREFIX, sae_probes_file

BATCH = 16  # texts that the language model reads at a time


def write(
    dictionary: Dictionary, config: Mapping[str, Any], folder: Path, fidelity: Fidelity, sets: Sequence[str]
) -> None:
    """Write the dictionary, and the activations of some of the package's data sets.

    Args:
        config: of the run, which tells the language model, the place and how texts were read.
        sets: names of binary sets, such as 100_news_fake.

    Raises:
        UserError: a TemporalSAE; no set, or one that is not there; a run that does not tell its language
            model or is of a place that nothing here records; a model that cannot be read.
    """
    if isinstance(dictionary, TemporalSAE):
        raise UserError(
            "sae-probes gives a dictionary one activation of each text, and a TemporalSAE predicts from those"
            " before it: probe it here, with --dataset sae-probes:NAME."
        )
    if not sets:
        raise UserError("--sets is missing: name data sets of sae-probes, such as --sets 100_news_fake.")
    files = {name: sae_probes_file(f"{PREFIX}{name}") for name in dict.fromkeys(sets)}
    trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
    place, model, length = Place.of_run(config), trainer.get("lm_name"), names.context_length(config)
    output = None if place is None else place.output
    if output is None or output.layer is None or model is None:
        raise UserError(
            "this run does not tell a language model and a layer whose activations can be recorded here: "
            "choose another."
        )
    lm = LanguageModel.load(str(model), dtype=buffer.get("lm_dtype") or "float32", layer=output.layer)
    check_width(dictionary, lm)
    saelens.write(dictionary, config, folder / "saelens", fidelity)
    activations = folder / f"model_activations_{names.model_name(trainer)}"
    with LoopProgress(len(files), "activations", "data sets") as progress:
        for name, file in files.items():
            with progress.piece(name):
                texts = [str(record["text"]) for record in read_records(file)]
                x_ND = last_activations(lm, texts, output, length, bool(buffer.get("add_bos", True)))
                save_tensors(activations / f"{name}_{names.hook_name(config)}.pt", x_ND)


def last_activations(
    lm: LanguageModel, texts: Sequence[str], place: Place, length: int | None, add_bos: bool
) -> Tensor:
    """The activation of each text's last token, [N, D] float32.

    Args:
        length: of the texts that are longer only the end is read, behind the BOS; None reads all.
        add_bos: read the BOS that the tokenizer puts in front of a text.
    """
    rows = [_end(row, lm, length, add_bos) for row in encode(lm.tokenizer, list(texts))[0]]
    x_ND = torch.zeros(len(rows), lm.d_model)
    # those of a batch are about equally long; a text without a token stays 0
    order = sorted((i for i in range(len(rows)) if rows[i]), key=lambda i: len(rows[i]))
    for first in range(0, len(order), BATCH):
        some = order[first : first + BATCH]
        tokens_BL, mask_BL = pad([rows[i] for i in some], side="right")
        x_BLD = lm.record(tokens_BL, mask_BL, place)
        x_ND[some] = x_BLD[torch.arange(len(some)), mask_BL.sum(1) - 1].float().cpu()
    return x_ND


def _end(row: list[int], lm: LanguageModel, length: int | None, add_bos: bool) -> list[int]:
    n_bos = int(lm.bos_id is not None and row[:1] == [lm.bos_id])
    bos, text = row[: n_bos if add_bos else 0], row[n_bos:]
    while text and text[-1] in lm.special_ids:
        text = text[:-1]
    return bos + (text if length is None else text[max(0, len(text) - length + len(bos)) :])
