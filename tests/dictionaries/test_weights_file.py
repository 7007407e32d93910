"""Files of weights: no flipped bit, no truncation and no strange number passes, and each is one sentence."""

import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from every_dictionary import CONFIG, KINDS, make, normal

from dictionary_learning.command.checksums import CHECKSUMS, check_checksum, save_with_checksum
from dictionary_learning.dictionaries.weights_file import load_safely, read_checkpoint, save_weights
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import released_folder, run_folder, saelens
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.utils import load_dictionary

WEIGHTS = "sae_weights.safetensors"


def refused(load: Callable[[], object], name: str) -> str:
    """The one sentence of a refusal, which names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError) as raised:
            load()
    said = str(raised.value)
    assert name in said
    assert "\n" not in said
    return said


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def write(form: str, folder: Path, kind: str = "tsae") -> Path:
    """A folder of one of the three formats; its file of weights."""
    if form == "run":
        run_folder.write(make(kind), CONFIG, folder)
        return folder / "ae.pt"
    if form == "saelens":
        saelens.write(make(kind), CONFIG, folder)
        return folder / WEIGHTS
    released_folder.save(make("temporal"), folder, CONFIG)
    return folder / "latest_ckpt.safetensors"


@pytest.mark.parametrize("form", ["run", "saelens", "released"])
def test_every_flipped_bit_is_noticed_where_a_checksum_is_there(tmp_path: Path, form: str) -> None:
    path = write(form, tmp_path)
    assert json.loads((tmp_path / CHECKSUMS).read_text()).keys() == {path.name}
    whole = path.read_bytes()
    draw = random.Random(0)
    for bit in draw.sample(range(8 * len(whole)), 40):
        path.write_bytes(flipped(whole, bit))
        refused(lambda: load_dictionary(tmp_path, "cpu"), str(path))
    path.write_bytes(whole)
    load_dictionary(tmp_path, "cpu")


@pytest.mark.parametrize("name", ["ae.pt", "state.pt", "latest_ckpt.pt"])
def test_a_flipped_bit_of_a_tensor_is_noticed_without_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    weights = {"W_dec": normal(50, 40), "b_dec": normal(40, seed=1)}
    torch.save({"step": 5, "trainers": [weights]} if name == "state.pt" else weights, path)
    whole = path.read_bytes()
    tensor = whole.index(weights["W_dec"].numpy().tobytes())
    draw = random.Random(1)
    for bit in draw.sample(range(8 * tensor, 8 * (tensor + 50 * 40 * 4)), 40):
        path.write_bytes(flipped(whole, bit))
        assert "damaged or cut short" in refused(lambda: load_safely(path), str(path))
    zeroed = bytearray(whole)
    zeroed[tensor + 100 : tensor + 200] = bytes(100)
    path.write_bytes(zeroed)
    refused(lambda: load_safely(path), str(path))
    path.write_bytes(whole)
    load_safely(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_of_any_length_that_is_cut_short_is_one_sentence(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "ae.pt"
    torch.save({"W_dec": normal(160, 160)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    assert len(whole) > 100_000
    for length in [*range(0, 70_000, 601), *range(len(whole) - 40, len(whole))]:
        path.write_bytes(whole[:length])
        refused(lambda: load_safely(path), str(path))


def test_a_folder_of_another_program_has_no_checksum_and_loads(tmp_path: Path) -> None:
    write("run", tmp_path)
    (tmp_path / CHECKSUMS).unlink()
    state = torch.load(tmp_path / "ae.pt", weights_only=True)
    torch.save(state, tmp_path / "ae.pt")
    load_dictionary(tmp_path, "cpu")
    (tmp_path / CHECKSUMS).write_text('{"another.pt": ["00"]}')
    load_dictionary(tmp_path, "cpu")
    (tmp_path / CHECKSUMS).write_text('["00"]')
    refused(lambda: load_dictionary(tmp_path, "cpu"), CHECKSUMS)


def test_a_run_records_its_weights_and_each_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (None, 10, 20):
        run.save_weights(0, make("tsae").state_dict(), step)
    assert json.loads((tmp_path / "trainer_0" / CHECKSUMS).read_text()).keys() == {"ae.pt"}
    there = tmp_path / "trainer_0" / "checkpoints"
    assert json.loads((there / CHECKSUMS).read_text()).keys() == {"ae_10.pt", "ae_20.pt"}
    whole = (there / "ae_10.pt").read_bytes()
    (there / "ae_10.pt").write_bytes(flipped(whole, 9))
    refused(lambda: read_checkpoint(there / "ae_10.pt"), "ae_10.pt")
    read_checkpoint(there / "ae_20.pt")


@pytest.mark.parametrize("recorded", [True, False])
def test_whichever_of_two_files_is_there_when_the_machine_stops_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    from dictionary_learning.command import checksums, files

    path = tmp_path / "ae.pt"
    save_with_checksum(path, lambda file: file.write(b"old"))
    if not recorded:
        (tmp_path / CHECKSUMS).unlink()
    for module, name in ((files.os, "replace"), (checksums, "_record")):
        steps = iter(range(9))
        real = getattr(module, name)

        def stop(*arguments: Any, real: Any = real, steps: Any = steps, last: int = 1) -> None:
            if next(steps) == last:
                raise KeyboardInterrupt
            real(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(module, name, stop)
            with pytest.raises(KeyboardInterrupt):
                save_with_checksum(path, lambda file: file.write(b"new"))
        check_checksum(path)  # before the renaming the old one is there, after it the new one
        assert path.read_bytes() == (b"old" if name == "replace" else b"new")
    save_with_checksum(path, lambda file: file.write(b"new"))
    assert len(json.loads((tmp_path / CHECKSUMS).read_text())["ae.pt"]) == 1


# --- numbers ---


def altered(path: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change one tensor of a file of weights, as a person would, whose checksum is gone then."""
    from safetensors.torch import load_file, save_file

    (path.parent / CHECKSUMS).unlink()
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    state[name] = change(state[name])
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    else:
        torch.save(state, path)


def with_one(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return change


@pytest.mark.parametrize("form", ["run", "saelens", "released"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_one(float("nan")), "holds NaN or infinite numbers"),
        (with_one(float("inf")), "holds NaN or infinite numbers"),
        (lambda tensor: tensor.long(), "is of int64, where floating-point"),
        (lambda tensor: tensor.to(torch.uint8), "is of uint8, where floating-point"),
        (lambda tensor: tensor.bool(), "is of bool, where floating-point"),
    ],
)
def test_what_is_no_finite_float_is_told_with_file_and_tensor(
    tmp_path: Path, form: str, change: Callable[[torch.Tensor], torch.Tensor], sentence: str
) -> None:
    for i, name in enumerate(
        {"run": ["W_enc", "threshold"], "saelens": ["W_dec", "threshold"]}.get(form, "D")
    ):
        path = write(form, tmp_path / str(i))
        altered(path, name, change)
        assert refused(lambda path=path: load_dictionary(path.parent, "cpu"), str(path)).startswith(
            f"{name} in {path} {sentence}"
        )


def test_complex_weights_are_refused(tmp_path: Path) -> None:
    path = write("run", tmp_path)
    altered(path, "W_enc", lambda tensor: tensor.to(torch.complex64))
    said = refused(lambda: load_dictionary(path.parent, "cpu"), str(path))
    assert said.startswith(f"W_enc in {path} is of complex64, where floating-point")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("k", torch.tensor(3.5), r"where whole numbers belong"),
        ("k", torch.tensor(float("nan")), "holds NaN"),
        ("k", torch.tensor(True), "is of bool"),
        ("group_sizes", torch.tensor([3.5, 8.5]), "where whole numbers belong"),
    ],
)
def test_counts_are_whole_numbers(tmp_path: Path, name: str, value: torch.Tensor, sentence: str) -> None:
    path = write("run", tmp_path)
    altered(path, name, lambda _: value)
    assert sentence in refused(lambda: load_dictionary(tmp_path, "cpu"), f"{name} in {path}")


@pytest.mark.parametrize("kind", KINDS)
def test_counts_and_shorter_floats_are_no_reason_to_refuse(tmp_path: Path, kind: str) -> None:
    path = write("run", tmp_path, kind)
    before, _ = load_dictionary(tmp_path, "cpu")
    (tmp_path / CHECKSUMS).unlink()
    state = torch.load(path, weights_only=True)
    torch.save({name: t.bfloat16() if t.ndim == 2 else t for name, t in state.items()}, path)
    after, _ = load_dictionary(tmp_path, "cpu")
    assert after.dict_size == before.dict_size


@pytest.mark.parametrize("value", [0, 0.0, -2.0, float("nan"), float("inf"), "2", [1], True])
def test_a_norm_factor_that_is_no_positive_number_is_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "ae.pt"
    backup = {"step": 1, "ae": make("tsae").state_dict(), "optimizer": {}, "config": {}}
    torch.save(backup | {"norm_factor": value}, path)
    assert "norm_factor" in refused(lambda: read_checkpoint(path), str(path))
    torch.save(backup | {"norm_factor": 2}, path)
    assert read_checkpoint(path).norm_factor == 2.0


def test_weights_are_written_whole_and_read_bit_for_bit(tmp_path: Path) -> None:
    weights = make("gated").state_dict()
    save_weights(tmp_path / "new" / "ae.pt", weights)
    again = read_checkpoint(tmp_path / "new" / "ae.pt").weights
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    shutil.rmtree(tmp_path / "new")
