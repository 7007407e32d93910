"""`--plan`: what a run would cost, from its options and formulas."""

import dataclasses
import io
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from dictionary_learning import distributed, train_attention, train_baseline, train_temporal
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.shard import shard_bytes
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.evaluation.options import EvalOptions
from dictionary_learning.jobs import costs
from dictionary_learning.jobs.costs import Sizes
from dictionary_learning.jobs.machines import H100, Machine, this_cpu
from dictionary_learning.jobs.plan_command import duration
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.sizes import read_sizes
from dictionary_learning.trainers import TemporalMatryoshkaBatchTopKTrainer

GIVEN = ["--model_sizes", "26", "2304", "2.02e9", "256000"]
GEMMA = ["--config", "gemma-2-2b", *GIVEN, "--plan"]
UNIT = Machine("unit", 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, "every rate is one")


def sizes(**other: object) -> Sizes:
    small = Sizes(
        n_layers=4, n_read_layers=2, layer_parameters=4000, vocab_size=100, d_model=10, arch="temporal",
        unit="pairs", n_latents=50, batch_size=8, k=5, processes=2, context_length=16, steps=3, tokens=1000,
        distinct_tokens=500, memory=0, lm_dtype="float32",
    )  # fmt: skip
    return dataclasses.replace(small, **other)


def test_the_language_model_costs_two_operations_a_weight_and_its_attention() -> None:
    # two of four layers: 2 * 2 * 1000 for the weights, 2 * 4 * 16 * 10 for the attention; 1000 tokens
    assert costs.harvest(sizes(), UNIT).seconds == 1000 * (4000 + 1280) / 2


def test_a_step_of_one_process_sends_nothing() -> None:
    assert costs.step(sizes(processes=1), UNIT).wire == 0


def test_what_a_step_sends_is_what_the_reductions_count() -> None:
    n_processes, batch_size, k = 4, 32, 5
    asked = sizes(processes=n_processes, batch_size=batch_size, k=k)
    trainer = TemporalMatryoshkaBatchTopKTrainer(
        steps=10, activation_dim=10, dict_size=50, k=k, form="paper", seed=0, device="cpu"
    )
    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=n_processes)
    try:
        trainer.update(0, torch.randn(8, 2, 10))  # finds the first bias, with reductions of its own
        distributed.traffic.clear()
        trainer.update(1, torch.randn(8, 2, 10))
        sent = dict(distributed.traffic)
    finally:
        dist.destroy_process_group()
    planned = costs.beside_gradients(asked)
    assert sent["gradients"] == 4 * asked.parameters
    assert sent["largest"] == planned["fired"] + 4  # and the largest logit
    assert planned["selection"] <= sent["total"] <= planned["selection"] + 4000


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cache_takes_the_bytes_of_its_shards(dtype: str) -> None:
    planned = costs.cache(sizes(distinct_tokens=1600, store_dtype=dtype), UNIT).disk
    assert planned == pytest.approx(shard_bytes(1600, 100, 10, getattr(torch, dtype)), abs=256)


def test_the_parameters_are_those_of_the_dictionary() -> None:
    ae = TemporalMatryoshkaBatchTopKTrainer(steps=2, activation_dim=10, dict_size=50, k=5, seed=0).ae
    assert sizes().parameters == sum(weight.numel() for weight in ae.parameters())
    own = {"tied_weights": False, "bottleneck_factor": 4, "n_attn_layers": 2}
    for rank, values in ((None, 48), (8, 8)):
        attention = TemporalSAE(10, 48, 2, kval_topk=3, **own, value_rank=rank)
        planned = sizes(arch="attention", n_latents=48, **own, value_rank=rank)
        n_biases = 2 * (48 + values + 2 * 12)  # which the plan leaves out
        assert planned.parameters + n_biases == sum(weight.numel() for weight in attention.parameters())
    full = dataclasses.replace(planned, value_rank=None)
    assert costs.step(planned, UNIT).seconds < costs.step(full, UNIT).seconds


def test_each_token_of_a_run_is_encoded_once_and_runs_stay_whole() -> None:
    # 8 pairs of 2 processes: 8 rows as pairs, 2 runs of 3 tokens, or a run of 5
    assert [sizes(run_length=r).n_rows for r in (1, 2, 4)] == [8, 6, 5]
    # 6 runs of 4 pairs for 5 processes: one of them has 2
    assert sizes(run_length=4, batch_size=24, processes=5).share == 8


def test_a_quicker_product_that_looks_for_what_is_kept_shortens_a_step_by_its_operations() -> None:
    quick = dataclasses.replace(UNIT, screen_flops=4.0)
    # 2 x 8 rows x 10 x 50 operations, of which three in four are spared
    saved = costs.step(sizes(), UNIT).seconds - costs.step(sizes(), quick).seconds
    assert saved == pytest.approx(2 * 8 * 10 * 50 * 3 / 4)
    dense = [costs.step(sizes(arch="standard", unit="tokens"), machine).seconds for machine in (UNIT, quick)]
    assert dense[0] == dense[1]


def test_the_steps_take_the_disk_of_a_runs_state_weights_and_checkpoints() -> None:
    trainer = TemporalMatryoshkaBatchTopKTrainer(steps=2, activation_dim=64, dict_size=512, k=5, seed=0)
    trainer.update(0, torch.randn(8, 2, 64))
    n_bytes = []
    for content in (trainer.state_dict(), trainer.ae.state_dict()):
        torch.save(content, written := io.BytesIO())
        n_bytes.append(len(written.getvalue()))
    asked = sizes(d_model=64, n_latents=512, n_checkpoints=2)
    measured = n_bytes[0] + 3 * n_bytes[1]
    assert costs.plan(asked, UNIT)["3 steps"].disk == pytest.approx(measured, rel=0.02)


def test_an_evaluation_is_planned_with_the_amounts_that_it_has() -> None:
    options = EvalOptions(run_name="any")
    assert (sizes().eval_tokens, sizes().loss_tokens) == (options.max_tokens, options.loss_tokens)


def test_more_processes_shorten_a_step_and_its_memory() -> None:
    one, eight = (costs.step(sizes(processes=n, batch_size=8192, n_latents=4096), H100) for n in (1, 8))
    assert eight.memory < one.memory
    assert eight.seconds < one.seconds < 8 * eight.seconds


def test_sizes_are_read_from_the_config_without_the_weights(tiny_lm_folder: Path, tmp_path: Path) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    for path in tiny_lm_folder.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    found = read_sizes(str(tmp_path))
    assert found.d_model == lm.d_model
    assert found.n_layers == len(lm.layers)
    assert found.layer_parameters == sum(weight.numel() for weight in lm.layers.parameters())
    assert found.vocab_size == lm.vocab_size


def test_this_cpu_is_timed() -> None:
    machine = this_cpu(64, 256, "float32")
    rates = dataclasses.asdict(machine)
    assert all(value > 1e6 for name, value in rates.items() if name not in ("name", "source", "call"))
    assert 0 < machine.call < 1e-2
    assert "timed just now" in machine.source


def test_a_plan_is_printed_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train_temporal.main([*GEMMA, "--processes", "8"])
    told = capsys.readouterr().out
    assert "(8 processes x 1,024)" in told
    assert "assumed, not measured" in told
    assert "beside the gradients" in told
    assert [name for name in ("harvest", "cache", "one step", "evaluation") if f"\n{name} " not in told] == []
    assert list(tmp_path.iterdir()) == []


def test_a_plan_on_a_cache_is_of_what_the_cache_holds(
    written_cache: Path, tiny_lm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--dict_size", "64", "--k", "4", "--batch_size", "512", "--steps", "100", "--warmup_steps", "5"]
    train_temporal.main([*words, "--activations", str(written_cache), "--plan"])
    told = capsys.readouterr().out
    n_tokens = sum(entry.n_tokens or 0 for entry in ActivationCache.open(written_cache).parts["train"].shards)
    assert f"64 latents of width 32, k 4, on layer 2 of {tiny_lm_folder}; 100 steps" in told
    assert f"(1 process x 512), {n_tokens:.3g} tokens" in told
    assert "the activations are there" in told
    with pytest.raises(UserError, match="model"):  # asked for by name, it is another one
        train_temporal.main([*words, "--model", "a/b", "--activations", str(written_cache), "--plan"])
    train_temporal.main([*GEMMA, "--activations", str(tmp_path / "later")])  # one that is to be written
    assert "of it for the language model" in capsys.readouterr().out


def test_every_training_command_plans(capsys: pytest.CaptureFixture[str]) -> None:
    for arch in ("batch_top_k", "standard"):
        train_baseline.main([*GEMMA, "--arch", arch])
    train_attention.main(GEMMA)
    train_temporal.main([*GIVEN, "--plan"])  # the default run, without GPU and hub
    assert capsys.readouterr().out.count("plan on H100") == 4


def test_under_torchrun_the_first_process_alone_plans_for_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")
    train_temporal.main(GEMMA)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    train_temporal.main(GEMMA)
    assert "(3 processes x 2,731 at most)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--config", "gemma-2-2b", "--plan"], "for a plan without it give --model_sizes LAYERS WIDTH"),
        ([*GEMMA, "--processes", "8193"], "each of 8193 processes something: at least 8193"),
        ([*GEMMA, "--processes", "0"], "--processes is 0, and must be at least 1"),
        ([*GEMMA, "--layer", "26"], "has no layer 26"),
        ([*GEMMA, "--resume"], "leave out --resume"),
        ([*GEMMA, "--sweep", "grid.yaml"], "leave out --sweep"),
        (["--config", "demo", "--processes", "8"], "--processes is for a plan: add --plan"),
        (["--config", "demo", "--plan", "--model_sizes", "2", "0", "9", "9"], "four positive numbers"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        train_temporal.main(words)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0123, "12.3 ms"), (1.5, "1.50 s"), (130, "2.17 min"), (86_400 * 30, "30.0 days"), (0, "0 ms")],
)
def test_durations_are_told_as_a_person_would(seconds: float, told: str) -> None:
    assert duration(seconds) == told
