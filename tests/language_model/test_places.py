"""Where a dictionary was trained, by every name that such a place has."""

from typing import Any

import pytest

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.places import Place, place_to_read


@pytest.mark.parametrize(
    ("hook", "output", "words"),
    [
        ("blocks.6.hook_resid_post", Place(6), "the residual stream after layer 6"),
        ("blocks.6.hook_resid_pre", Place(5), "the residual stream before layer 6"),
        ("model.layers.12", Place(12), "the residual stream after layer 12"),
        ("transformer.h.5", Place(5), "the residual stream after layer 5"),
        ("gpt_neox.layers.3", Place(3), "the residual stream after layer 3"),
        (
            "blocks.6.hook_mlp_out",
            Place(6, site="mlp"),
            "what the MLP of layer 6 adds to the residual stream",
        ),
        (
            "blocks.0.hook_attn_out",
            Place(0, site="attn"),
            "what the attention of layer 0 adds to the residual stream",
        ),
        ("blocks.0.hook_resid_pre", None, "the embeddings"),
        ("hook_embed", None, "the embeddings"),
        ("blocks.6.hook_resid_mid", None, "the residual stream between attention and MLP"),
        ("blocks.6.hook_mlp_in", None, "an MLP"),
        ("blocks.6.mlp.hook_post", None, "an MLP"),
        ("blocks.6.attn.hook_q", None, "an attention layer"),
        ("blocks.6.attn.hook_z", None, "the heads of an attention layer"),
        ("blocks.6.ln2.hook_normalized", None, "a normalised residual stream"),
        ("model.layers.12.mlp", None, "an MLP"),
        ("blocks.6.hook_other", None, "a place that is not known here"),
    ],
)
def test_a_hook_is_an_output_of_a_decoder_layer_or_of_none(
    hook: str, output: Place | None, words: str
) -> None:
    place = Place.of_hook(hook)
    assert (place.output, place.description) == (output, words)
    if hook.startswith("blocks."):
        assert place.hook_name == hook


def test_a_place_is_the_same_under_every_name() -> None:
    mlp = Place(2, site="mlp")
    assert {mlp, Place.of_hook("blocks.2.hook_mlp_out"), Place.of_submodule("mlp_out_layer_2")} == {mlp}
    assert [str(Place(2)), str(mlp), str(Place(2, site="attn"))] == [
        "layer 2",
        "the MLP of layer 2",
        "the attention of layer 2",
    ]


@pytest.mark.parametrize("site", ["resid", "attn", "mlp"])
def test_our_own_name_of_a_submodule_leads_back_to_its_place(site: str) -> None:
    place = Place(11, site=site)
    assert Place.of_submodule(place.submodule_name) == place.output == place
    assert place.hook_name is not None
    assert Place.of_hook(place.hook_name) == place


@pytest.mark.parametrize(
    ("trainer", "buffer", "output", "hook"),
    [
        ({"layer": 8}, {}, Place(8), "blocks.8.hook_resid_post"),
        ({"layer": 8}, {"io": "out"}, Place(8), "blocks.8.hook_resid_post"),
        ({"layer": 8}, {"io": "in"}, Place(7), "blocks.8.hook_resid_pre"),
        ({"layer": 0}, {"io": "in"}, None, "blocks.0.hook_resid_pre"),
        (
            {"layer": 8, "submodule_name": "resid_post_layer_8"},
            {"io": "in"},
            Place(7),
            "blocks.8.hook_resid_pre",
        ),
        ({"layer": 8, "submodule_name": "resid_pre_layer_8"}, {}, Place(7), "blocks.8.hook_resid_pre"),
        ({"submodule_name": "resid_post_layer_3"}, {}, Place(3), "blocks.3.hook_resid_post"),
        # what was recorded of the activations stands over what the trainer was told
        ({"layer": 8, "submodule_name": "resid_pre_layer_8"}, {"io": "out", "layer": 7}, Place(7), None),
        ({"layer": 1}, {"io": "in", "layer": 2}, Place(1), "blocks.2.hook_resid_pre"),
        ({"layer": 1}, {"site": "mlp", "layer": 2}, Place(2, site="mlp"), "blocks.2.hook_mlp_out"),
        (
            {"layer": 2, "submodule_name": "mlp_out_layer_2"},
            {"io": "out"},
            Place(2, site="mlp"),
            "blocks.2.hook_mlp_out",
        ),
        (
            {"layer": 2, "submodule_name": "attn_out_layer2"},
            {},
            Place(2, site="attn"),
            "blocks.2.hook_attn_out",
        ),
        ({"submodule_name": "attn_out_layer2"}, {}, Place(2, site="attn"), "blocks.2.hook_attn_out"),
        ({"layer": 2, "submodule_name": "mlp_out_layer_2"}, {"io": "in"}, None, None),
        ({"layer": 2, "submodule_name": "mlp_hidden_layer_2"}, {"io": "out"}, None, None),
        ({"layer": 2, "submodule_name": "transcoder_layer_2"}, {"io": "out"}, None, None),
        ({"layer": 2, "submodule_name": "the dictionary in my notes"}, {}, Place(2), None),
        ({"layer": 2}, {"io": "in_and_out"}, None, None),
        ({"layer": 2}, {"site": "elsewhere"}, None, None),
        (
            {"layer": None, "hook_name": "blocks.4.hook_mlp_out"},
            {},
            Place(4, site="mlp"),
            "blocks.4.hook_mlp_out",
        ),
        ({"layer": None, "hook_name": "blocks.4.attn.hook_z"}, {}, None, "blocks.4.attn.hook_z"),
        ({"layer": 3, "hook_name": "blocks.4.hook_resid_pre"}, {"layer": 3}, Place(3), None),
    ],
)
def test_a_run_is_read_where_it_was_trained(
    trainer: dict[str, Any], buffer: dict[str, Any], output: Place | None, hook: str | None
) -> None:
    config = {"trainer": trainer, "buffer": buffer}
    place = Place.of_run(config)
    assert place is not None
    assert place.output == output
    if hook is not None:
        assert place.hook_name == hook
    for asked in ((), (5,), (None, "attn"), (5, "mlp")):
        if output is None:
            with pytest.raises(UserError, match=r"the dictionary in runs/r was trained on .*: choose"):
                place_to_read(config, *asked, where="runs/r")
        else:
            layer, site = (*asked, None, None)[:2]
            assert place_to_read(config, *asked) == Place(layer or output.layer, site=site or output.site)


def test_a_config_that_names_no_place_takes_the_one_that_is_asked_for() -> None:
    assert Place.of_run({"trainer": {}}) is None
    assert Place.of_run({"trainer": {"submodule_name": "mine"}, "buffer": {"io": "in"}}) is None
    assert place_to_read({"trainer": {}}) is None
    assert place_to_read({"trainer": {}}, None, "mlp") is None
    assert place_to_read({"trainer": {}}, 4) == Place(4)
    assert place_to_read({"trainer": {}}, 4, "mlp") == Place(4, site="mlp")
    nameless = {"trainer": {"submodule_name": "mlp_out"}}
    assert place_to_read(nameless) is None
    assert place_to_read(nameless, 4) == Place(4, site="mlp")
