"""The convert command: what it writes, what it says, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
import warm
from every_dictionary import CONFIG, D, F, K, make, normal
from toy_runs import make_run

from dictionary_learning import convert
from dictionary_learning.command.lock import locked
from dictionary_learning.dictionaries.classics import JumpReluAutoEncoder
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import run_folder
from dictionary_learning.utils import load_dictionary


def folder_of(kind: str, folder: Path) -> Path:
    run_folder.write(make(kind), CONFIG, folder)
    return folder


def run(source: Path, to: str, output: Path, *flags: str) -> None:
    convert.main(["--from", str(source), "--to", to, "--output", str(output), *flags])


def test_a_t_sae_goes_to_saelens_and_back_with_the_same_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder_of("tsae", tmp_path / "run")
    run(source, "saelens", tmp_path / "saelens")
    said = capsys.readouterr()
    assert "cfg.json and " in said.out + said.err
    assert "TemporalMatryoshkaBatchTopKSAE, 12 latents" in said.out + said.err
    run(tmp_path / "saelens", "run", tmp_path / "back")
    before, after = (load_dictionary(tmp_path / name, "cpu")[0] for name in ("run", "back"))
    x = normal(20, D)
    assert type(after) is type(before)
    assert torch.equal(after.encode(x), before.encode(x))
    assert after.splits() == before.splits()


def test_the_library_gets_a_class_that_it_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder_of("tsae", tmp_path / "run"), "dictionary_learning", tmp_path / "out")
    trainer = json.loads((tmp_path / "out" / "config.json").read_text())["trainer"]
    assert (trainer["dict_class"], trainer["k"], trainer["activation_dim"]) == (
        "MatryoshkaBatchTopKSAE",
        K,
        D,
    )
    state = torch.load(tmp_path / "out" / "ae.pt", weights_only=True)
    assert state.keys() == {"W_enc", "b_enc", "W_dec", "b_dec", "k", "threshold", "group_sizes"}
    said = capsys.readouterr()
    assert "note: written as the MatryoshkaBatchTopKSAE" in said.out + said.err


def test_a_bias_that_the_library_does_not_subtract_is_folded(tmp_path: Path) -> None:
    before = make("jumprelu")
    assert isinstance(before, JumpReluAutoEncoder)
    before.apply_b_dec_to_input = True
    run_folder.write_for_library(before, CONFIG, tmp_path)
    after = JumpReluAutoEncoder.from_pretrained(tmp_path / "ae.pt")
    x = normal(20, D)
    torch.testing.assert_close(after.encode(x), before.encode(x))


def test_norms_that_the_library_would_change_are_refused_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ae = make("relu")
    with torch.no_grad():
        ae.decoder.weight.mul_(2.0)
    run_folder.write(ae, CONFIG, tmp_path / "run")
    with pytest.raises(UserError, match=r"norms from 2 to 2, and the library .*--allow_loss"):
        run(tmp_path / "run", "dictionary_learning", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    run(tmp_path / "run", "dictionary_learning", tmp_path / "out", "--allow_loss")
    said = capsys.readouterr()
    assert "lost: the decoder's rows have norms from 2 to 2" in said.out + said.err


def test_a_temporal_sae_goes_to_the_released_layout_and_to_saelens(tmp_path: Path) -> None:
    source = folder_of("temporal", tmp_path / "run")
    run(source, "released", tmp_path / "layer_8")
    run(tmp_path / "layer_8", "saelens", tmp_path / "saelens")
    before, after = (load_dictionary(tmp_path / name, "cpu")[0] for name in ("run", "saelens"))
    assert isinstance(after, TemporalSAE)
    x = normal(2, 5, D)
    assert torch.equal(after.encode(x), before.encode(x))
    with pytest.raises(UserError, match="library has no TemporalSAE: choose --to saelens"):
        run(source, "dictionary_learning", tmp_path / "out")
    with pytest.raises(UserError, match="only a TemporalSAE has the released layout"):
        run(folder_of("tsae", tmp_path / "other"), "released", tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--from", "x"], "--from, --to and --output are needed"),
        (
            ["--from", "x", "--to", "saelens", "--output", "full"],
            "full is not empty: choose another --output",
        ),
        (["--from", "x", "--to", "saelens", "--output", "file"], "file is a file, not a folder.*--output"),
        (
            ["--from", "nothing/here/there", "--to", "saelens", "--output", "new"],
            "there is no folder nothing",
        ),
    ],
)
def test_wrong_calls_are_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nothing").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        convert.main(words)
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("left", [".sae_weights.safetensors.part", ".cfg.json.12-0123abcd.part", ".lock"])
def test_what_a_killed_conversion_left_is_replaced(tmp_path: Path, left: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / left).touch()
    run(folder_of("tsae", tmp_path / "run"), "saelens", tmp_path / "out")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["cfg.json", "checksums.json", "runner_cfg.json", "sae_weights.safetensors"]


def test_two_conversions_do_not_write_to_one_folder(tmp_path: Path) -> None:
    source = folder_of("tsae", tmp_path / "run")
    with locked(tmp_path / "out"):
        with pytest.raises(UserError, match="wait for it, or stop it"):
            run(source, "saelens", tmp_path / "out")
        assert not list((tmp_path / "out").glob("[!.]*"))


def test_an_unknown_format_is_told_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        convert.main(["--from", "x", "--to", "sparsify", "--output", "y"])
    assert "saelens" in capsys.readouterr().err


def test_it_runs_from_another_folder_and_ends_a_mistake_without_a_traceback(tmp_path: Path) -> None:
    make_run(tmp_path / "tsae", Path("tiny"))
    run(tmp_path / "tsae", "saelens", tmp_path / "out")
    words = ["--from", "tsae", "--to", "saelens", "--output", "out"]
    done = warm.run(["-m", "dictionary_learning.convert", *words], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: out is not empty: choose another --output, or remove what is in it.\n"


# --- SAEBench's interface; SAEBench itself runs in test_exchange.py ---


def test_saebench_gets_unit_rows_and_the_same_reconstruction(tmp_path: Path) -> None:
    from dictionary_learning.exchange.saebench import SAEBenchSAE

    before = make("matryoshka")
    with torch.no_grad():
        before.W_dec.mul_(torch.linspace(0.5, 2.0, F).unsqueeze(1))
    sae = SAEBenchSAE(before, CONFIG)
    x = normal(2, 5, D)
    assert sae.check_decoder_norms()
    torch.testing.assert_close(sae(x), before(x))
    torch.testing.assert_close(sae.encode(x), before.encode(x) * torch.linspace(0.5, 2.0, F))
    torch.testing.assert_close(sae.encode(x) @ sae.W_dec + sae.b_dec, before(x))
    cfg = sae.cfg.to_dict()
    assert (cfg["hook_layer"], cfg["hook_name"]) == (8, "blocks.8.hook_resid_post")
    assert (cfg["d_in"], cfg["d_sae"], cfg["dtype"]) == (D, F, "float32")
    json.dumps(cfg)
    half = sae.to(dtype=torch.bfloat16)
    assert half.encode(x).dtype == half.dtype == half.W_dec.dtype == torch.bfloat16
    # computed in float32: the same latents fire
    assert torch.equal(half.encode(x) != 0, before.encode(x) != 0)
    assert sae.cfg.dtype == "bfloat16"


def test_saebench_gets_the_predicted_part_of_the_same_batch_alone() -> None:
    from dictionary_learning.exchange.saebench import SAEBenchSAE

    before = make("temporal")
    sae = SAEBenchSAE(before, CONFIG)
    x, other = normal(2, 5, D), normal(2, 5, D, seed=1)
    whole = before.reconstruct(x)
    f = sae.encode(x)
    assert (sae.cfg.d_sae, f.shape, sae.check_decoder_norms()) == (F, (2, 5, F), True)
    torch.testing.assert_close(sae.decode(f), whole)
    # a latent that is taken out takes away what it adds, and no more
    latent = int(f[0, 0].argmax())
    ablated = f.clone()
    ablated[0, 0, latent] = 0
    change = whole - sae.decode(ablated)
    torch.testing.assert_close(change[0, 0], f[0, 0, latent] * sae.W_dec[latent])
    assert float(change.flatten(0, 1)[1:].abs().max()) < 1e-4
    sae.encode(other)
    with pytest.raises(UserError, match="not of the batch that was encoded last"):
        sae.decode(f)
    with pytest.raises(UserError, match=r"single activations \[5, 6\].*core, sparse_probing"):
        sae.encode(x[0])
    everything = SAEBenchSAE(before, CONFIG, codes="all")
    assert everything.cfg.d_sae == 2 * F
    torch.testing.assert_close(everything.decode(everything.encode(x)), whole)


@pytest.mark.parametrize(("kind", "codes"), [("relu", "novel"), ("temporal", "novel"), ("temporal", "all")])
def test_saebench_finds_nothing_to_ablate_in_padding(kind: str, codes: str) -> None:
    """SCR and TPP ablate latents also where SAEBench has set the activations of padding to zero."""
    from dictionary_learning.exchange.saebench import SAEBenchSAE

    sae = SAEBenchSAE(make(kind), CONFIG, codes=codes)
    x, padded = normal(2, 5, D), normal(2, 5, D)
    padded[0, 3:] = 0
    f = sae.encode(padded)
    assert not f[0, 3:].any()
    assert f[0, :3].any()
    assert torch.equal(f[1], sae.encode(x)[1])


def test_saebench_is_not_given_a_dictionary_of_nowhere() -> None:
    from dictionary_learning.exchange.saebench import SAEBenchSAE

    with pytest.raises(UserError, match="names no language model"):
        SAEBenchSAE(make("relu"), {"trainer": {}, "buffer": {}})
