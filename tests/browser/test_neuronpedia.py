"""The files for Neuronpedia: their form, as a strict schema says it, and their numbers."""

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dictionary_learning.errors import UserError
from temporal_saes.browser.command import main

Number = Annotated[float, Field(allow_inf_nan=False)]
Index = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """No field more, none less, and no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Activation(Strict):
    bin_min: Number
    bin_max: Number
    bin_contains: Number
    tokens: list[str]
    values: list[Number]
    qualifying_token_index: Index

    @model_validator(mode="after")
    def fits(self) -> "Activation":
        assert len(self.tokens) == len(self.values)
        assert self.qualifying_token_index < len(self.tokens)
        assert self.bin_contains == self.bin_min == -1 or 0 <= self.bin_contains <= 1
        return self


class Feature(Strict):
    feature_index: Index
    neuron_alignment_indices: list[Index]
    neuron_alignment_values: list[Number]
    neuron_alignment_l1: list[Share]
    correlated_neurons_indices: list[Index]
    correlated_neurons_l1: list[Number]
    correlated_neurons_pearson: list[Number]
    correlated_features_indices: list[Index]
    correlated_features_l1: list[Number]
    correlated_features_pearson: list[Number]
    neg_str: list[str]
    neg_values: list[Number]
    pos_str: list[str]
    pos_values: list[Number]
    frac_nonzero: Share
    freq_hist_data_bar_values: list[Number]
    freq_hist_data_bar_heights: list[Number]
    logits_hist_data_bar_heights: list[Number]
    logits_hist_data_bar_values: list[Number]
    n_prompts_total: Index
    n_tokens_in_prompt: Index
    dataset: str
    decoder_weights_dist: list[Number]
    activations: list[Activation]
    vector: list[Number]


class Batch(Strict):
    model_id: str
    layer: Index
    sae_set: str
    sae_id_suffix: str | None
    features: Annotated[list[Feature], Field(min_length=1)]


class Skipped(Strict):
    model_id: str
    layer: str
    sae_set: str
    log_sparsity: Number | None
    skipped_indexes: list[Index]


class Logit(Strict):
    token: str
    value: Number


class Explanation(Strict):
    text: Annotated[str, Field(min_length=1, max_length=512)]
    methodName: str
    modelName: str


class UploadedActivation(Strict):
    tokens: Annotated[list[str], Field(min_length=1, max_length=1024)]
    values: list[Number]
    quantileMin: Number
    quantileMax: Number
    quantileFraction: Share

    @model_validator(mode="after")
    def fits(self) -> "UploadedActivation":
        assert len(self.tokens) == len(self.values)
        return self


class UploadedFeature(Strict):
    index: Index
    density: Share
    topLogits: Annotated[list[Logit], Field(max_length=20)]
    bottomLogits: Annotated[list[Logit], Field(max_length=20)]
    explanations: list[Explanation]
    activations: Annotated[list[UploadedActivation], Field(min_length=1)]


class Upload(Strict):
    modelId: str
    source: str
    features: Annotated[list[UploadedFeature], Field(min_length=1, max_length=128)]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def batch(browser_for_neuronpedia: Path) -> dict[str, Any]:
    return read(browser_for_neuronpedia / "neuronpedia" / "2-toy-set" / "batch-0.json")


@pytest.fixture(scope="module")
def upload(browser_for_neuronpedia: Path) -> dict[str, Any]:
    return read(browser_for_neuronpedia / "neuronpedia" / "upload" / "features-0.json")


def test_the_files_have_the_form_that_neuronpedia_takes(browser_for_neuronpedia: Path, batch, upload) -> None:  # type: ignore[no-untyped-def]
    folder = browser_for_neuronpedia / "neuronpedia" / "2-toy-set"
    Batch.model_validate(batch)
    Upload.model_validate(upload)
    Skipped.model_validate(read(folder / "skipped_indexes.json"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "batch-0.json",
        "run_settings.json",
        "skipped_indexes.json",
    ]
    assert (batch["model_id"], batch["layer"], batch["sae_set"]) == ("tiny", 2, "toy-set")
    assert (upload["modelId"], upload["source"]) == ("tiny", "2-toy-set")
    assert read(folder / "run_settings.json")["options"]["neuronpedia"] == "toy-set"


def test_the_schema_refuses_what_does_not_fit(batch, upload) -> None:  # type: ignore[no-untyped-def]
    for model, content in ((Batch, batch), (Upload, upload)):
        for change in ({"features": []}, {"more": 1}):
            with pytest.raises(ValueError, match="validation error"):
                model.model_validate({**content, **change})
    shorter = json.loads(json.dumps(upload))
    shorter["features"][0]["activations"][0]["values"].pop()
    with pytest.raises(ValueError, match="validation error"):
        Upload.model_validate(shorter)


def test_dead_latents_are_skipped_by_name(browser_for_neuronpedia: Path, batch, upload) -> None:  # type: ignore[no-untyped-def]
    skipped = read(browser_for_neuronpedia / "neuronpedia" / "2-toy-set" / "skipped_indexes.json")[
        "skipped_indexes"
    ]
    there = [feature["feature_index"] for feature in batch["features"]]
    assert 95 in skipped
    assert sorted(there + skipped) == list(range(96))
    assert [feature["index"] for feature in upload["features"]] == there


def test_the_numbers_are_those_of_the_browser(browser_for_neuronpedia: Path, batch, upload) -> None:  # type: ignore[no-untyped-def]
    n_tokens = read(browser_for_neuronpedia / "browser.json")["n_tokens"]
    for feature, sent in zip(batch["features"], upload["features"], strict=True):
        heights = feature["freq_hist_data_bar_heights"]
        assert sum(heights) == pytest.approx(feature["frac_nonzero"] * n_tokens)
        assert sent["density"] == feature["frac_nonzero"]
        assert [logit["token"] for logit in sent["topLogits"]] == feature["pos_str"]
        assert [logit["value"] for logit in sent["bottomLogits"]] == feature["neg_values"]
        assert len(feature["vector"]) == 32
        top = [one for one in feature["activations"] if one["bin_contains"] == -1]
        peaks = [one["values"][one["qualifying_token_index"]] for one in top]
        assert peaks == sorted(peaks, reverse=True)
        assert peaks[0] == pytest.approx(top[0]["bin_max"], abs=1e-3)
        shares = {one["bin_min"]: one["bin_contains"] for one in feature["activations"] if one not in top}
        assert sum(shares.values()) <= feature["frac_nonzero"] + 1e-9
        for one in feature["activations"]:
            value = one["values"][one["qualifying_token_index"]]
            assert one["bin_min"] - 1e-3 <= value <= one["bin_max"] + 1e-3
        assert len(sent["activations"]) == len(feature["activations"])


def test_a_long_explanation_is_cut_to_what_the_server_takes(upload) -> None:  # type: ignore[no-untyped-def]
    said = {feature["index"]: feature["explanations"] for feature in upload["features"]}
    assert said[2] == [{"text": "x" * 512, "methodName": "temporal_saes_autointerp", "modelName": "a model"}]
    assert all(not some for latent, some in said.items() if latent != 2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--neuronpedia", "My Set", "--neuronpedia_model", "tiny"], "is no name of a set"),
        (["--neuronpedia", "set"], "needs --neuronpedia_model"),
        (["--neuronpedia", "set", "--neuronpedia_model", "a/b"], "a/b is no id of a model there"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        main(["--run_name", "x", *words])
