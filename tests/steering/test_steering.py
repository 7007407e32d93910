"""Steering: the pushes themselves, and the script over a tiny model, a judge on this machine and the demo."""

import json
import math
import re
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import warm
from caches import forbid_language_model
from chat_server import serving
from run_folders import save_run

from dictionary_learning.command import cli
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import Continuation, LanguageModel, add, steered
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from temporal_saes.steering.chosen_latents import topic
from temporal_saes.steering.command import main
from temporal_saes.steering.prompts import DEFAULT_PROMPTS, read_prompts
from temporal_saes.steering.pushes import ShareRow, Steering, make_push, token_shares, write_texts

SCRIPT = Path(__file__).parents[2] / "src" / "experiments" / "steering.py"
LAYER, DEAD = 2, 7


@pytest.fixture(scope="module")
def lm(tiny_lm_folder):
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


def orthonormal(width: int = 32) -> BatchTopKSAE:
    """Latents that are the coordinates of the activation along orthonormal directions, where positive."""
    made = BatchTopKSAE(width, width, k=width, seed=0)
    basis_DD = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0)))[0]
    with torch.no_grad():
        made.encoder.weight.copy_(basis_DD)
        made.encoder.bias.zero_()
        made.decoder.weight.copy_(basis_DD.T)
    made.threshold.fill_(0.0)
    return made


def steering(lm, dictionary, mode="add", norm_limit=math.inf, generated_only=False) -> Steering:
    return Steering(lm, LAYER, dictionary, mode, norm_limit, generated_only)


def pushed(pushes, mode, dictionary, x_BLD, norm_limit=math.inf):
    """What becomes of the output of a layer: the pushes, of a language model that is nothing but it."""
    layer = torch.nn.Identity()
    lm = SimpleNamespace(
        steered=lambda dictionary, strengths, place, **options: steered(
            layer, dictionary, strengths, place, **options
        )
    )
    with Steering(lm, layer, dictionary, mode, norm_limit, False).pushed(pushes), torch.no_grad():
        return layer(x_BLD)


# --- pushes ---


def test_a_strength_is_a_multiple_of_the_maximum_or_the_length_of_what_is_added():
    dictionary = orthonormal()
    with torch.no_grad():
        dictionary.decoder.weight[:, 4] *= 2.5  # a decoder row of length 2.5
    of_maximum = make_push(dictionary, 4, 3.0, maximum=10.0)
    assert of_maximum.amount == 30
    assert of_maximum.length == pytest.approx(75)
    raw = make_push(dictionary, 4, 3.0, maximum=None)
    assert raw.length == pytest.approx(3)
    torch.testing.assert_close(raw.amount * raw.direction_D, 3 * dictionary.decoder.weight[:, 4] / 2.5)


def test_a_control_is_as_long_points_elsewhere_and_follows_the_seed():
    dictionary = orthonormal(512)
    push, control, other = (make_push(dictionary, 4, 3.0, 10.0, seed) for seed in (None, 0, 1))
    assert control.length == pytest.approx(push.length)
    assert (push.is_control, control.is_control) == (False, True)
    for a, b in ((push, control), (control, other)):
        assert abs(float(a.direction_D @ b.direction_D)) < 0.2
    assert torch.equal(control.direction_D, make_push(dictionary, 4, 1.0, 9.0, 0).direction_D)
    assert not torch.equal(control.direction_D, make_push(dictionary, 5, 3.0, 10.0, 0).direction_D)


def test_a_latent_without_a_direction_is_told():
    dictionary = orthonormal()
    with torch.no_grad():
        dictionary.decoder.weight[:, 4] = 0
    with pytest.raises(UserError, match="latent 4 has no decoder direction"):
        make_push(dictionary, 4, 1.0, 1.0)


def test_every_row_gets_its_own_push_and_none_stays_as_it_is():
    dictionary = orthonormal()
    pushes = [make_push(dictionary, 4, 1.0, 5.0), None, make_push(dictionary, 9, -2.0, 5.0)]
    x_BLD = torch.randn(3, 6, 32)
    got_BLD = pushed(pushes, "add", dictionary, x_BLD)
    directions_FD = dictionary.decoder_directions()
    torch.testing.assert_close(got_BLD[0], x_BLD[0] + 5 * directions_FD[4])
    assert torch.equal(got_BLD[1], x_BLD[1])
    torch.testing.assert_close(got_BLD[2], x_BLD[2] - 10 * directions_FD[9])


def test_a_clamped_latent_has_the_value_whatever_it_was_and_the_others_keep_theirs():
    dictionary = orthonormal()
    pushes = [make_push(dictionary, 4, 1.0, 5.0), make_push(dictionary, 9, 0.0, 5.0)]
    x_BLD = 3 * torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0))
    before, after = dictionary.encode(x_BLD), dictionary.encode(pushed(pushes, "clamp", dictionary, x_BLD))
    was_on = before[0, :, 4] > 0
    assert was_on.any()
    assert not was_on.all()
    torch.testing.assert_close(after[0, was_on, 4], torch.full_like(after[0, was_on, 4], 5.0))
    # off means below zero, by an amount that the latent does not tell: what is added is 5 there, too
    moved_LD = pushed(pushes, "clamp", dictionary, x_BLD)[0] - x_BLD[0]
    torch.testing.assert_close(
        moved_LD[~was_on], 5 * dictionary.decoder_directions()[4].expand(int((~was_on).sum()), 32)
    )
    torch.testing.assert_close(after[1, :, 9], torch.zeros(8), atol=1e-5, rtol=0)
    others = [latent for latent in range(32) if latent not in (4, 9)]
    torch.testing.assert_close(after[..., others], before[..., others], atol=1e-4, rtol=1e-4)


def test_a_random_direction_is_added_where_latents_are_clamped():
    dictionary = orthonormal()
    control = make_push(dictionary, 4, 1.0, 5.0, seed=0)
    x_BLD = torch.randn(2, 3, 32)
    got_BLD = pushed([control, make_push(dictionary, 4, 1.0, 5.0)], "clamp", dictionary, x_BLD)
    torch.testing.assert_close(got_BLD[0], x_BLD[0] + 5 * control.direction_D)


def test_an_attention_sink_is_not_pushed():
    dictionary = orthonormal()
    x_BLD = torch.randn(1, 4, 32)
    x_BLD[0, 0] *= 1000
    for mode in ("add", "clamp"):
        got_BLD = pushed([make_push(dictionary, 4, 1.0, 5.0)], mode, dictionary, x_BLD, norm_limit=100)
        assert torch.equal(got_BLD[0, 0], x_BLD[0, 0])
        assert not torch.equal(got_BLD[0, 1], x_BLD[0, 1])


@pytest.mark.parametrize("generated_only", [False, True])
def test_a_batch_of_pushes_writes_what_each_push_alone_writes(lm, generated_only):
    dictionary = orthonormal()
    rows = [
        ("The judge near the oven", make_push(dictionary, 3, 1.0, 8.0)),
        ("A comet", None),
        ("Every onion", make_push(dictionary, 9, 1.0, -8.0)),
        ("The judge near the oven", None),
        ("A comet", make_push(dictionary, 3, 1.0, 30.0, seed=0)),
    ]
    texts = write_texts(
        steering(lm, dictionary, generated_only=generated_only),
        rows,
        max_new_tokens=8,
        temperature=0.0,
        batch_size=3,
        seed=0,
    )
    for (prompt, push), one in zip(rows, texts, strict=True):
        edit = None if push is None else add(push.direction_D, push.amount)
        layer = None if push is None else LAYER
        (alone,) = lm.generate([prompt], layer, edit, max_new_tokens=8, generated_only=generated_only)
        assert one.text == alone
    assert len({one.text for one in texts}) > 3


def test_sampled_texts_follow_the_seed(lm):
    rows = [("A comet", None)] * 3
    options = {"max_new_tokens": 8, "temperature": 1.0, "batch_size": 2}
    first, again, other = (
        write_texts(steering(lm, orthonormal()), rows, seed=seed, **options) for seed in (0, 0, 5)
    )
    assert first == again != other


@torch.no_grad()
@pytest.mark.parametrize("generated_only", [False, True])
def test_token_shares_are_those_of_one_text_at_a_time(lm, generated_only):
    dictionary = orthonormal()
    push = make_push(dictionary, 3, 1.0, 20.0)
    ids_Kn = torch.tensor([[10, 20, 30], [40, 50, 60]])

    def written(*texts: str) -> Continuation:
        return Continuation(*(lm.tokenizer(some)["input_ids"] for some in texts), texts[1])

    text, other = written("The judge", " near the oven."), written("A", " comet")
    rows = [
        ShareRow(text, push, ids_Kn),
        ShareRow(other, None, ids_Kn[:1]),
        ShareRow(Continuation(other.prompt_ids, [], ""), push, ids_Kn),
    ]
    shares = token_shares(steering(lm, dictionary, generated_only=generated_only), rows, batch_size=2)
    assert shares[2] is None
    for one, pushed, share, ids in ((text, push, shares[0], ids_Kn), (other, None, shares[1], ids_Kn[:1])):
        tokens_BL = torch.tensor([one.prompt_ids + one.ids])
        mask_BL, n_prompt = torch.ones_like(tokens_BL, dtype=torch.bool), len(one.prompt_ids)

        def edit(x_BLD, pushed=pushed, n_prompt=n_prompt):
            moved = x_BLD + (0 if pushed is None else pushed.amount * pushed.direction_D)
            return torch.cat([x_BLD[:, :n_prompt], moved[:, n_prompt:]], 1) if generated_only else moved

        p_LV = lm.logits(tokens_BL, mask_BL, LAYER, edit)[0].softmax(-1)[n_prompt - 1 : -1]
        expected = [float(p_LV[:, some].sum(-1).mean()) for some in ids]
        np.testing.assert_allclose(share, expected, rtol=1e-4)


# --- prompts and topics ---


def test_prompts_are_the_lines_with_something_on_them(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("﻿ I think \r\n\n\tThe other day\n", encoding="utf-8")
    assert read_prompts(path) == ["I think", "The other day"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"caf\xe9", "not UTF-8"),
        (b"a\nb\na\n", "the line 'a' twice"),
        (None, "No such file"),
    ],
)
def test_a_file_without_prompts_is_told(tmp_path, content, sentence):
    path = tmp_path / "p.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"--prompts .*{sentence}"):
        read_prompts(path)


def test_the_shipped_prompts_are_there():
    assert len(read_prompts(DEFAULT_PROMPTS)) >= 5


def test_a_topic_is_the_explanation_or_the_places_where_the_latent_is_strongest():
    strongest = [{"before": "by the\n", "token": " Rhine", "after": " it", "value": 3.0}]
    assert topic({"explanation": "rivers", "strongest": strongest}) == "rivers"
    assert topic({"explanation": None, "strongest": strongest}).endswith("\n- by the << Rhine>> it")


# --- the script ---


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_lm_folder):
    """Three kinds of dictionaries; in the grouped one a latent of the first group is dead."""
    folder = tmp_path_factory.mktemp("steering") / "runs"
    torch.manual_seed(0)
    grouped = MatryoshkaBatchTopKSAE(32, 96, k=8, group_sizes=[32, 64], seed=0)
    grouped.threshold.fill_(0.3)
    with torch.no_grad():
        grouped.b_enc[DEAD] = -1e6
    plain = BatchTopKSAE(32, 96, k=8, seed=1)
    plain.threshold.fill_(0.3)
    save_run(folder / "grouped", grouped, tiny_lm_folder, LAYER)
    save_run(folder / "plain", plain, tiny_lm_folder, LAYER)
    tfa = TemporalSAE(32, 24, n_heads=2, kval_topk=4)
    save_run(folder / "tfa", tfa, tiny_lm_folder, LAYER, **tfa.architecture)
    save_run(folder / "wide", BatchTopKSAE(40, 96, k=8), tiny_lm_folder, LAYER)
    return folder


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def flags(runs, tiny_corpus, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The judge\nA comet\n")
    data = ["--dataset", str(tiny_corpus), "--label_field", "domain", "--device", "cpu"]
    small = "--n_latents 2 --strengths 1 4 --max_new_tokens 6 --lm_batch_size 4 --generation_batch_size 5"
    out = ["--output_dir", str(tmp_path / "out"), "--checkpoints_path", str(runs)]
    return [*data, *out, *small.split(), "--prompts", str(prompts)]


def run_main(flags: list[str], *more: str) -> dict:
    """The one result that is made."""
    folder = Path(flags[flags.index("--output_dir") + 1])
    before = set(folder.glob("*.json"))
    main([*flags, *more])
    (made,) = set(folder.glob("*.json")) - before
    return json.loads(made.read_text(encoding="utf-8"))


def test_the_script_runs_from_another_folder_and_shows_all_it_wrote(flags, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = warm.run([str(SCRIPT), *flags, "--run_name", "grouped", "--chunk", "0"], cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert list(elsewhere.iterdir()) == []
    names = sorted(path.suffix for path in (tmp_path / "out").iterdir())
    assert names == [".html", ".json", ".pdf", ".png"]
    (path,) = (tmp_path / "out").glob("*.json")
    assert re.fullmatch(r"grouped_steering_tiny-.*_chunk0_add-[0-9a-f]{6}\.json", path.name)
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["options"]["strengths"] == [1.0, 4.0]
    assert result["subject"]["layer"] == LAYER
    assert len(result["latents"]) == 2
    assert all(one["latent"] < 32 for one in result["latents"])
    assert result["probe"]["classes"] == ["Astronomy", "Cooking", "Law"]
    # 2 latents x 2 prompts x (not pushed + (2 strengths, pushed along the latent and along a random one))
    records = result["records"]
    assert len(records) == 2 * 2 * (1 + 2 * 2)
    for latent in result["latents"]:
        own = [record for record in records if record["latent"] == latent["latent"]]
        lengths = {(r["strength"], r["control"]): r["length"] for r in own}
        assert lengths[None, False] is None
        assert lengths[4.0, False] == pytest.approx(4 * lengths[1.0, False])
        assert lengths[4.0, True] == pytest.approx(lengths[4.0, False])
        assert latent["target"] in result["probe"]["classes"]
        assert len(latent["top_tokens"]) == 10
    assert all(record["nll"] > 0 for record in records if record["n_tokens"])
    assert all(0 <= record["own_tokens"] <= 1 for record in records if record["own_tokens"] is not None)
    assert {record["success"] for record in records} == {None}
    assert [point["strength"] for point in result["summary"]["steered"]] == [1.0, 4.0]
    assert "random 4" in done.stdout
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert f"Latent {result['latents'][0]['latent']}" in page


def test_given_latents_are_pushed_in_their_order_without_a_control(flags):
    result = run_main(flags, "--run_name", "grouped", "--latents", "20", "3", "--no_control", "--chunk", "2")
    assert [one["latent"] for one in result["latents"]] == [20, 3]
    assert not any(record["control"] for record in result["records"])
    assert result["summary"]["control"] == []


def test_clamped_generated_positions_and_raw_strengths(flags):
    more = ["--mode", "clamp", "--positions", "generated", "--unit", "raw", "--strengths", "0", "50"]
    result = run_main(flags, "--run_name", "plain", "--choose", "random", "--temperature", "0", *more)
    texts = {(r["latent"], r["strength"], r["control"], r["prompt"]): r["text"] for r in result["records"]}
    for latent in result["latents"]:
        for prompt in (0, 1):
            # nothing is added along a random direction
            assert texts[latent["latent"], 0.0, True, prompt] == texts[latent["latent"], None, False, prompt]
    assert len(set(texts.values())) > 3


def test_novel_directions_of_a_temporal_sae_are_pushed_in_the_same_way(flags):
    result = run_main(flags, "--run_name", "tfa", "--chunk", "1", "--choose", "active")
    assert result["subject"]["split"] == "novel"
    assert all(24 <= one["latent"] < 48 for one in result["latents"])
    directions_FD = TemporalSAE(32, 24, n_heads=2, kval_topk=4).decoder_directions()
    for one in result["latents"]:
        (length,) = {
            r["length"] for r in result["records"] if r["latent"] == one["latent"] and r["strength"] == 4
        }
        assert length == pytest.approx(
            4 * one["maximum"] * float(directions_FD[one["latent"]].detach().norm()), rel=1e-4
        )


def test_latents_of_a_temporal_sae_are_clamped_in_the_context_of_their_text(flags):
    more = [
        "--run_name",
        "tfa",
        "--mode",
        "clamp",
        "--chunk",
        "0",
        "--choose",
        "active",
        "--temperature",
        "0",
    ]
    result = run_main(flags, *more)
    assert result["subject"]["split"] == "predicted"
    texts = {(r["latent"], r["strength"], r["control"], r["prompt"]): r["text"] for r in result["records"]}
    assert len(set(texts.values())) > 3


@pytest.mark.usefixtures("drawn")
def test_compare_takes_what_is_finished_and_draws_one_figure(flags, tmp_path, monkeypatch, capsys):
    compare = ["--compare", "grouped:0", "plain:2", "--choose", "random"]
    main([*flags, *compare])
    assert len(list((tmp_path / "out").glob("*.json"))) == 2
    (figure,) = (tmp_path / "out").glob("*grouped-0_plain-2_add-*.png")
    assert figure.with_suffix(".pdf").is_file()

    def refuse(*args, **options):
        raise AssertionError("written again")

    monkeypatch.setattr("temporal_saes.steering.study.write_texts", refuse)
    main([*flags, *compare])
    with pytest.raises(AssertionError, match="written again"):
        main([*flags, *compare, "--seed", "1"])
    Path(flags[flags.index("--prompts") + 1]).write_text("Another\n")
    with pytest.raises(AssertionError, match="written again"):
        main([*flags, *compare])


def test_the_page_shows_what_a_model_wrote_as_text(flags, runs, tmp_path):
    beside = runs / "plain" / "trainer_0" / "explanations.json"
    beside.write_text(json.dumps({str(i): "<script>alert(1)</script>" for i in range(96)}))
    Path(flags[flags.index("--prompts") + 1]).write_text("<b>bold</b> & co\n", encoding="utf-8")
    try:
        result = run_main(flags, "--run_name", "plain")
    finally:
        beside.unlink()
    assert result["latents"][0]["explanation"] == "<script>alert(1)</script>"
    (path,) = (tmp_path / "out").glob("*.html")
    page = path.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "&lt;b&gt;bold" in page
    assert "<b>" not in page


# --- the judge ---


def scores(i: int, body: dict) -> str:
    """A judge by the length of the text; every seventh answer is nonsense."""
    return "who knows" if i % 7 == 6 else f"Score: {len(body['messages'][0]['content']) % 4}"


def test_a_judge_scores_every_text_and_its_nonsense_is_counted(flags, tmp_path, capsys):
    with serving(scores) as server:
        more = ["--judge_url", server.url, "--judge_model", "judge-7b", "--judge_workers", "2"]
        result = run_main(flags, "--run_name", "plain", "--explanation_path", str(explained(tmp_path)), *more)
    records = result["records"]
    judge = result["judge"]
    assert judge["model"] == "judge-7b"
    assert judge["asked"] == 2 * len(records)
    missing = sum(record[name] is None for record in records for name in ("success", "coherence"))
    assert missing == sum(judge["failures"].values())
    assert {record["success"] for record in records} <= {None, 0, 1, 2, 3}
    assert result["summary"]["steered"][0]["measures"]["success"]["mean"] >= 0
    asked = [request["messages"][0]["content"] for request in server.requests]
    assert any("a certain thing" in text for text in asked)
    assert "judge judge-7b" in capsys.readouterr().out


def explained(folder: Path) -> Path:
    path = folder / "explanations.json"
    path.write_text(json.dumps({str(i): "a certain thing" for i in range(96)}))
    return path


def test_a_judge_of_nothing_but_nonsense_leaves_the_numbers(flags, tmp_path):
    with serving(lambda i, body: "As I see it, yes.") as server:
        result = run_main(flags, "--run_name", "plain", "--judge_url", server.url, "--judge_model", "m")
    assert result["judge"]["failures"] == {"unreadable answer": result["judge"]["asked"]}
    assert {record["success"] for record in result["records"]} == {None}
    assert result["summary"]["steered"][0]["measures"]["nll_added"] is not None
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    (page,) = (tmp_path / "out").glob("*.html")
    n = result["judge"]["asked"]
    assert f"m, {n:,} answers, failed: {n:,} unreadable answer" in page.read_text(encoding="utf-8")


def test_a_judge_that_dies_on_the_way_costs_its_scores_and_nothing_else(flags, monkeypatch):
    monkeypatch.setattr("temporal_saes.chat.server.time.sleep", lambda seconds: None)
    with serving(lambda i, body: "Score: 1" if i < 5 else (500, {}, b"")) as server:
        more = ["--judge_url", server.url, "--judge_model", "m", "--judge_workers", "1"]
        result = run_main(flags, "--run_name", "plain", *more)
    # one answer was to the question whether it is there
    assert sum(record["success"] == 1 for record in result["records"]) >= 4
    assert result["judge"]["gave_up"]
    assert result["judge"]["failures"]["server error"] == 8
    assert all(record["nll"] is not None for record in result["records"] if record["n_tokens"] > 1)


def test_a_result_whose_judge_gave_up_is_made_again(flags, monkeypatch):
    monkeypatch.setattr("temporal_saes.chat.server.time.sleep", lambda seconds: None)
    alive = {"yes": False}
    with serving(lambda i, body: "Score: 1" if i == 0 or alive["yes"] else (500, {}, b"")) as server:
        more = ["--judge_url", server.url, "--judge_model", "m", "--compare", "plain"]
        main([*flags, *more])
        alive["yes"] = True
        main([*flags, *more])
    (path,) = Path(flags[flags.index("--output_dir") + 1]).glob("*.json")
    assert json.loads(path.read_text(encoding="utf-8"))["judge"]["failures"] == {}


def test_a_judge_that_falls_silent_on_the_way_is_given_up_and_counted(flags, monkeypatch):
    monkeypatch.setattr("temporal_saes.chat.server.time.sleep", lambda seconds: None)
    never = threading.Event()
    with serving(lambda i, body: "Score: 1" if i == 0 else never.wait(60)) as server:
        more = ["--judge_url", server.url, "--judge_model", "m", "--judge_timeout", "0.3"]
        began = time.monotonic()
        result = run_main(flags, "--run_name", "plain", *more)
        took = time.monotonic() - began
        never.set()
    judge = result["judge"]
    assert judge["gave_up"]
    assert judge["failures"]["timeout"] >= 8
    assert sum(judge["failures"].values()) == judge["asked"]
    assert result["summary"]["steered"][0]["measures"]["nll_added"] is not None
    # 8 workers with 4 attempts of 0.3 s; a hundred questions one after another would take two minutes
    assert took < 60


@pytest.mark.parametrize(
    ("respond", "sentence"),
    [
        (lambda i, body: (404, {}, b"no such model"), "status 404"),
        (lambda i, body: time.sleep(20), "did not answer within 0.2 seconds.*--judge_timeout"),
        (None, "cannot be reached"),
    ],
)
def test_a_judge_that_is_not_there_is_told_before_the_model_is_loaded(flags, monkeypatch, respond, sentence):
    forbid_language_model(monkeypatch)
    more = ["--run_name", "plain", "--judge_model", "m", "--judge_timeout", "0.2" if respond else "20"]
    with serving(respond) if respond else nobody() as server, pytest.raises(UserError, match=sentence):
        main([*flags, *more, "--judge_url", server.url])


@contextmanager
def nobody():
    """An address at which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    yield SimpleNamespace(url=url)


# --- mistakes ---


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--run_name", "grouped", "--latents", "96"], "--latents 96 is out of range: .* 0 to 95"),
        (["--run_name", "grouped", "--latents", "-1"], "--latents -1 is out of range"),
        (["--run_name", "grouped", "--latents", "40"], "not in chunk 0, which is 0 to 31"),
        (["--run_name", "grouped", "--latents", "3", "3"], "--latents 3 3 names one twice"),
        (["--run_name", "grouped", "--strengths", "nan"], "--strengths is nan, and must be a finite number"),
        (["--run_name", "grouped", "--strengths", "1", "1"], "names one twice"),
        (["--run_name", "grouped", "--temperature", "-1"], "--temperature -1"),
        (["--run_name", "grouped", "--n_latents", "0"], "--n_latents 0"),
        (["--run_name", "grouped", "--judge_url", "http://a"], "needs --judge_model"),
        (["--run_name", "grouped", "--judge_timeout", "0", "--judge_model", "m"], "--judge_timeout 0"),
        (["--run_name", "grouped", "--judge_url", "a", "--judge_model", "m"], "no address of a server"),
        (["--run_name", "grouped", "--prompts", "/nowhere/p.txt"], "--prompts /nowhere/p.txt cannot be read"),
        (["--run_name", "grouped", "--explanation_path", "/nowhere/e.json"], "cannot be read"),
        (["--run_name", "baseline_model", "--model", "demo", "--layer", "2"], "has no latents to push"),
        (["--run_name", "nobody"], "no run 'nobody'"),
        (["--compare", "grouped", "plain", "--latents", "3"], "--latents is about one dictionary"),
        (["--compare", "grouped", "plain", "--explanation_path", "e"], "--explanation_path is about one"),
    ],
)
def test_mistakes_are_told_before_the_language_model_is_loaded(flags, tmp_path, monkeypatch, more, sentence):
    forbid_language_model(monkeypatch)
    with pytest.raises(UserError, match=sentence):
        main([*flags, *more])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--run_name", "grouped", "--latents", str(DEAD)], f"--latents {DEAD} is dead: .*--max_texts"),
        (["--run_name", "wide"], "width 40"),
        (["--run_name", "plain", "--max_new_tokens", "511"], "no room for 511 more in its 512 positions"),
        (["--run_name", "plain", "--max_texts", "6"], "fewer than two classes have 5 texts"),
    ],
)
def test_what_only_the_model_shows_is_told_before_anything_is_written(flags, monkeypatch, more, sentence):
    def refuse(*args, **options):
        raise AssertionError("wrote before the mistake was seen")

    monkeypatch.setattr(LanguageModel, "generate", refuse)
    with pytest.raises(UserError, match=sentence):
        main([*flags, *more])


def test_a_mistake_is_one_sentence_and_exit_code_2(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: main([*flags, "--run_name", "grouped", "--latents", "96"]))
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip().splitlines() == [
        "error: --latents 96 is out of range: grouped:0 has the latents 0 to 95."
    ]


# --- the real model ---


def test_pushing_a_real_model_towards_a_word_makes_it_write_about_it(demo, tmp_path, capsys):
    """A dictionary made by hand: each latent is the mean activation of a topic minus that of the others."""
    lm = LanguageModel.load(str(demo.language_model), dtype="float32")
    topics = {
        "music": "The orchestra played a symphony. The singer recorded an album of songs with her guitar.",
        "food": "Fry the onions in butter, add garlic and salt, and bake the dough in the oven.",
    }
    means = {}
    for name, text in topics.items():
        tokens_BL, mask_BL, _ = lm.tokenize([text], 64)
        means[name] = lm.record(tokens_BL, mask_BL, 15)[0, 4:].float().mean(0)
    difference_D = means["music"] - means["food"]
    dictionary = BatchTopKSAE(576, 2, k=1)
    with torch.no_grad():
        dictionary.decoder.weight.copy_(torch.stack([difference_D, -difference_D], dim=1))
    real = Steering(lm, 15, dictionary, "add", 1800.0, False)
    rows = [
        ("Yesterday evening we talked about", make_push(dictionary, latent, 2.0, maximum=1.0))
        for latent in (0, 1)
    ]
    written = write_texts(real, rows, max_new_tokens=24, temperature=0.0, batch_size=2, seed=0)
    music, food = (one.text for one in written)
    assert re.search("music|song|sing|album|band|guitar|orchestra|concert|symphon", music.lower()), music
    assert re.search(
        "cook|food|bak|recipe|oven|butter|flour|garlic|onion|salt|dough|cake|bread", food.lower()
    ), food
