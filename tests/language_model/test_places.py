"""Where a dictionary was trained, by every name that such a place has."""

from typing import Any

import pytest

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.places import Place, layer_to_read


@pytest.mark.parametrize(
    ("hook", "layer", "words"),
    [
        ("blocks.6.hook_resid_post", 6, "the residual stream after layer 6"),
        ("blocks.6.hook_resid_pre", 5, "the residual stream before layer 6"),
        ("model.layers.12", 12, "the residual stream after layer 12"),
        ("transformer.h.5", 5, "the residual stream after layer 5"),
        ("gpt_neox.layers.3", 3, "the residual stream after layer 3"),
        ("blocks.0.hook_resid_pre", None, "the embeddings"),
        ("hook_embed", None, "the embeddings"),
        ("blocks.6.hook_resid_mid", None, "the residual stream between attention and MLP"),
        ("blocks.6.hook_mlp_out", None, "an MLP"),
        ("blocks.6.mlp.hook_post", None, "an MLP"),
        ("blocks.6.hook_attn_out", None, "an attention layer"),
        ("blocks.6.attn.hook_z", None, "the heads of an attention layer"),
        ("model.layers.12.mlp", None, "an MLP"),
        ("blocks.6.hook_other", None, "a place that is not known here"),
    ],
)
def test_a_hook_is_the_output_of_a_decoder_layer_or_of_none(hook: str, layer: int | None, words: str) -> None:
    place = Place.of_hook(hook)
    assert (place.output_layer, place.description) == (layer, words)
    if hook.startswith("blocks."):
        assert place.hook_name == hook


@pytest.mark.parametrize(
    ("trainer", "buffer", "layer", "hook"),
    [
        ({"layer": 8}, {}, 8, "blocks.8.hook_resid_post"),
        ({"layer": 8}, {"io": "out"}, 8, "blocks.8.hook_resid_post"),
        ({"layer": 8}, {"io": "in"}, 7, "blocks.8.hook_resid_pre"),
        ({"layer": 0}, {"io": "in"}, None, "blocks.0.hook_resid_pre"),
        ({"layer": 8, "submodule_name": "resid_post_layer_8"}, {"io": "in"}, 7, "blocks.8.hook_resid_pre"),
        ({"layer": 8, "submodule_name": "resid_pre_layer_8"}, {}, 7, "blocks.8.hook_resid_pre"),
        ({"submodule_name": "resid_post_layer_3"}, {}, 3, "blocks.3.hook_resid_post"),
        # what was recorded of the activations stands over what the trainer was told
        ({"layer": 8, "submodule_name": "resid_pre_layer_8"}, {"io": "out", "layer": 7}, 7, None),
        ({"layer": 1}, {"io": "in", "layer": 2}, 1, "blocks.2.hook_resid_pre"),
        ({"layer": 2, "submodule_name": "mlp_out_layer_2"}, {"io": "out"}, None, "blocks.2.hook_mlp_out"),
        ({"layer": 2, "submodule_name": "attn_out_layer2"}, {}, None, "blocks.2.hook_attn_out"),
        ({"layer": 2, "submodule_name": "the dictionary in my notes"}, {}, 2, "blocks.2.hook_resid_post"),
        ({"layer": 2}, {"io": "in_and_out"}, None, None),
        ({"layer": None, "hook_name": "blocks.4.hook_mlp_out"}, {}, None, "blocks.4.hook_mlp_out"),
        ({"layer": 3, "hook_name": "blocks.4.hook_resid_pre"}, {"layer": 3}, 3, "blocks.4.hook_resid_pre"),
    ],
)
def test_a_run_is_read_where_it_was_trained(
    trainer: dict[str, Any], buffer: dict[str, Any], layer: int | None, hook: str | None
) -> None:
    config = {"trainer": trainer, "buffer": buffer}
    place = Place.of_run(config)
    assert place is not None
    assert place.output_layer == layer
    if hook is not None:
        assert place.hook_name == hook
    for given in (None, 5):
        if layer is None:
            with pytest.raises(UserError, match=r"the dictionary in runs/r was trained on .*: choose"):
                layer_to_read(config, given, "runs/r")
        else:
            assert layer_to_read(config, given) == (layer if given is None else 5)


def test_a_config_that_names_no_place_takes_the_layer_that_is_asked_for() -> None:
    assert Place.of_run({"trainer": {}}) is None
    assert Place.of_run({"trainer": {"submodule_name": "mine"}, "buffer": {"io": "in"}}) is None
    assert layer_to_read({"trainer": {}}) is None
    assert layer_to_read({"trainer": {}}, 4) == 4
