"""The file of a sweep: which members it describes, and what is said of one that cannot be read."""

from pathlib import Path
from typing import Any

import pytest

from dictionary_learning.errors import UserError
from dictionary_learning.jobs.grid import read_members

BASELINES = ["batch_top_k", "matryoshka", "top_k", "standard", "jumprelu", "gated"]


def members(
    tmp_path: Path, text: str, flags: dict[str, Any] | None = None, architectures: list[str] | None = None
) -> dict[str, dict[str, Any]]:
    path = tmp_path / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    found = read_members(path, flags or {}, architectures or ["temporal"])
    return {member.name: member.flags for member in found}


def test_a_grid_has_a_member_for_each_of_its_points(tmp_path: Path) -> None:
    assert members(tmp_path, "k: [10, 20]\ndict_size: [64, 128]\ntemp_alpha: 0.5\n") == {
        "k10-d64": {"k": 10, "dict_size": 64, "temp_alpha": 0.5},
        "k10-d128": {"k": 10, "dict_size": 128, "temp_alpha": 0.5},
        "k20-d64": {"k": 20, "dict_size": 64, "temp_alpha": 0.5},
        "k20-d128": {"k": 20, "dict_size": 128, "temp_alpha": 0.5},
    }


def test_several_grids_follow_each_other_and_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    text = "- {arch: top_k, k: [5, 10], lr: 1e-3}\n- {arch: standard, l1_penalty: 0.1, lr: 1e-3}\n"
    assert members(tmp_path, text, architectures=BASELINES) == {
        "top_k-k5": {"arch": "top_k", "k": 5, "lr": 0.001},
        "top_k-k10": {"arch": "top_k", "k": 10, "lr": 0.001},
        "standard-l1_penalty0.1": {"arch": "standard", "l1_penalty": 0.1, "lr": 0.001},
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seed: [0, 1]", {"seed0": {"seeds": (0,)}, "seed1": {"seeds": (1,)}}),
        ("seeds: [[0, 1], 2]", {"seed0+1": {"seeds": (0, 1)}, "seed2": {"seeds": (2,)}}),
        ("learning-rate: [1e-3]", {"lr0.001": {"lr": 0.001}}),
        ("temp_alpha: [1, 0.25]", {"alpha1": {"temp_alpha": 1.0}, "alpha0.25": {"temp_alpha": 0.25}}),
        (
            "contrastive: [yes, no]",
            {"contrastive": {"contrastive": True}, "no_contrastive": {"contrastive": False}},
        ),
        ("pair_mode: [random]", {"pair_mode_random": {"pair_mode": "random"}}),
        (
            "decay_start: [null, 8]",
            {"decay_startnone": {"decay_start": None}, "decay_start8": {"decay_start": 8}},
        ),
        ("site: [attn, mlp]", {"attn": {"site": "attn"}, "mlp": {"site": "mlp"}}),
        (
            "group_fractions: [[0.2, 0.8], [1]]",
            {
                "group_fractions0.2+0.8": {"group_fractions": (0.2, 0.8)},
                "group_fractions1": {"group_fractions": (1.0,)},
            },
        ),
        # a float is written as short as it can be, and no shorter
        (
            "lr: [0.00012345678, 0.0001234568]",
            {"lr0.00012345678": {"lr": 0.00012345678}, "lr0.0001234568": {"lr": 0.0001234568}},
        ),
    ],
)
def test_values_become_what_a_flag_would_give(
    tmp_path: Path, line: str, expected: dict[str, dict[str, Any]]
) -> None:
    found = members(tmp_path, line)
    assert found == expected
    assert [[type(value) for value in flags.values()] for flags in found.values()] == [
        [type(value) for value in flags.values()] for flags in expected.values()
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no grid"),
        ("[]", "holds no grid"),
        ("{}", "holds no grid"),
        ("- {k: [1]}\n- 3", "holds no grid"),
        ("k, dict_size", "holds no grid"),
        ("k: []", "k in .* has no value"),
        ("kk: [1]", "kk in .* is no option: did you mean k?"),
        ("dict_sise: [64]", "did you mean dict_size?"),
        ("zzz: [64]", "see --help"),
        ("3: [64]", "3 in .* is no option"),
        ("model: [demo]", "model in .* is the same for all members .*: give it as --model"),
        ("run_name: [a]", "the same for all members"),
        ("context_length: [64, 128]", "give it as --context_length"),
        ("resume: [true]", "give it as --resume"),
        ("k: [ten]", "k is ten, and must be a whole number"),
        ("k: [1.5]", "k is 1.5, and must be a whole number"),
        ("k: [true]", "k is True, and must be a whole number"),
        ("lr: [fast]", "lr is fast, and must be a finite number"),
        ("lr: [.nan]", "lr is nan, and must be a finite number"),
        ("k: [null]", "k is None, and must be a whole number"),
        ("k: [[1, 2]]", "must be a whole number"),
        ("k: {a: 1}", "must be a whole number"),
        ("seeds: [[zero]]", "seeds is zero, and must be a whole number each"),
        ("form: [other]", "form is other: choose among paper, code"),
        ("arch: [temporal]", "arch in .* means nothing for temporal"),
        ("n_heads: [2]", "n_heads in .* means nothing for temporal"),
        ("k: [10, 20, 10]", "two members k10: leave one"),
        ("lr: [1e-3, 0.001]", "two members lr0.001"),
        ("- {k: 10}\n- {k: [10, 20]}", "two members k10"),
        ("k: [1]\nkval_topk: [2]", "names k twice, as kval_topk, too"),
        ("k: [1]\nlr: [0.1]\nk: [2]", "names k twice"),
        ("- k: [1]\n  k: [2]", "names k twice"),
        ("k: [1", "YAML with a grid of options was expected"),
        ("batch_size: [4]", "--batch_size 32 and batch_size in .* contradict each other"),
        ("out_batch_size: [4]", "--batch_size 32 and out_batch_size in .* contradict each other"),
    ],
)
def test_what_cannot_work_is_told_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        members(tmp_path, text, {"batch_size": 32})


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml cannot be read"):
        read_members(tmp_path / "none.yaml", {}, ["temporal"])
    with pytest.raises(UserError, match="cannot be read"):
        read_members(tmp_path, {}, ["temporal"])
