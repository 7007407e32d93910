"""Neuronpedia's export of a source, as its public data sets have it, from the batches of a browser.

    <model>/<source>/release.jsonl, model.jsonl, sourceset.jsonl, source.jsonl
    <model>/<source>/features/batch-<n>.jsonl.gz
    <model>/<source>/activations/batch-<n>.jsonl.gz
    <model>/<source>/explanations/batch-<n>.jsonl.gz     where a latent of the batch is explained

A line is a row of Neuronpedia's database with the names of its columns (`schema.prisma`, revision 008d504).
An import reads the columns of a file from its first line, so every line has all of them. It makes a model,
set or release only where none of the name is there; columns that would be empty are left to the database's
defaults.

An explanation has no type: those are rows of a table of their own, and an import ends at one that it does
not have. Ids are hashes of the rows, so that an import that is done again adds nothing.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.command.files import save_atomically, save_text
from temporal_saes.browser.neuronpedia import DIGITS, Place, Words
from temporal_saes.latents.facts import LatentFacts

CREATOR = "clkht01d40000jv08hvalcvly"  # the user that every Neuronpedia begins with, and gives its imports to
# of a batch, which Neuronpedia keeps with the source or in rows of their own
NOT_OF_A_FEATURE = ("feature_index", "n_prompts_total", "n_tokens_in_prompt", "dataset", "activations")

Row = dict[str, Any]


class Model(NamedTuple):
    """What Neuronpedia says of a language model that it does not know yet."""

    name: str
    """Its public name, such as google/gemma-2-2b."""
    n_layers: int
    d_model: int
    is_chat: bool


class Bundle:
    """The export of one source.

    Args:
        folder: of all exports.
        description: of the set of sources.
    """

    def __init__(
        self, folder: Path, facts: LatentFacts, place: Place, words: Words, model: Model, description: str
    ) -> None:
        self.folder = folder / place.model / place.source
        self.facts, self.place, self.words, self.model = facts, place, words, model
        self.description = description

    def write(self) -> None:
        """Write the rows that all latents share."""
        for name, row in _metadata(self.facts, self.place, self.words, self.model, self.description).items():
            save_text(self.folder / f"{name}.jsonl", _lines([row]))

    def add(self, number: int, features: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of one batch, whose features are as `batch-<n>.json` has them."""
        explained = [(one, self.words.explanations.get(one["feature_index"])) for one in features]
        for kind, rows in (
            ("features", [_feature(self.facts, self.place, one) for one in features]),
            ("activations", [row for one in features for row in _activations(self.place, one)]),
            (
                "explanations",
                [_explanation(self.place, self.words, one, said) for one, said in explained if said],
            ),
        ):
            if rows:
                # the same rows give the same bytes
                content = gzip.compress(_lines(rows).encode(), compresslevel=6, mtime=0)
                _save(self.folder / kind / f"batch-{number}.jsonl.gz", content)


def _metadata(
    facts: LatentFacts, place: Place, words: Words, model: Model, description: str
) -> dict[str, Row]:
    """The rows above the latents; the set is its own release."""
    shown = {"creatorId": CREATOR, "visibility": "PUBLIC"}
    maker = {"creatorName": words.creator, "urls": []}
    return {
        "release": {"name": place.set_name, "description": description, **shown, **maker},
        "model": {
            "id": place.model,
            "displayName": place.model,
            "displayNameShort": place.model,
            "owner": model.name.rpartition("/")[0] or model.name,
            **shown,
            "instruct": model.is_chat,
            "inferenceEnabled": False,
            "layers": model.n_layers,
            "neuronsPerLayer": 0,  # no neuron is shown
            "dimension": model.d_model,
        },
        "sourceset": {
            "modelId": place.model,
            "name": place.set_name,
            "description": description,
            "releaseName": place.set_name,
            "hasDashboards": True,
            "allowInferenceSearch": False,
            **shown,
            **maker,
        },
        "source": {
            "id": place.source,
            "modelId": place.model,
            "setName": place.set_name,
            **shown,
            "hasDashboards": True,
            "inferenceEnabled": False,
            "num_prompts": facts.examples.n_contexts,
            "num_tokens_in_prompt": int(np.diff(facts.examples.start_C).max()),
            "dataset": place.dataset,
        },
    }


def _at(place: Place, feature: Mapping[str, Any]) -> Row:
    return {"modelId": place.model, "layer": place.source, "index": str(feature["feature_index"])}


def _feature(facts: LatentFacts, place: Place, feature: Mapping[str, Any]) -> Row:
    maximum = max(max(one["values"]) for one in feature["activations"])
    latent = feature["feature_index"] - facts.first
    is_there_K = facts.decoder.indices_FK[latent] >= 0
    cosines = facts.decoder.values_FK[latent][is_there_K]
    return {
        **_at(place, feature),
        "sourceSetName": place.set_name,
        "creatorId": CREATOR,
        "maxActApprox": maximum,
        "hasVector": True,
        "vectorDefaultSteerStrength": maximum,
        "hookName": place.hook,
        "topkCosSimIndices": (facts.first + facts.decoder.indices_FK[latent][is_there_K]).tolist(),
        "topkCosSimValues": [round(float(value), DIGITS) for value in cosines],
        **{name: value for name, value in feature.items() if name not in NOT_OF_A_FEATURE},
    }


def _activations(place: Place, feature: Mapping[str, Any]) -> Iterable[Row]:
    for number, one in enumerate(feature["activations"]):
        values = one["values"]
        row = {
            **_at(place, feature),
            "creatorId": CREATOR,
            "tokens": one["tokens"],
            "values": values,
            "maxValue": max(values),
            "maxValueTokenIndex": values.index(max(values)),
            "minValue": min(values),
            "binMin": one["bin_min"],
            "binMax": one["bin_max"],
            "binContains": one["bin_contains"],
            "qualifyingTokenIndex": one["qualifying_token_index"],
            "dataSource": feature["dataset"],
        }
        yield {"id": _id([number, row]), **row}


def _explanation(place: Place, words: Words, feature: Mapping[str, Any], said: str) -> Row:
    row = {
        **_at(place, feature),
        "authorId": CREATOR,
        "description": said,
        "explanationModelName": words.model or None,
        "notes": words.method,
    }
    return {"id": _id(row), **row}


def _id(content: Any) -> str:
    """As long as Neuronpedia's own."""
    return "c" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _save(path: Path, content: bytes) -> None:
    save_atomically(path, lambda file: file.write(content))
