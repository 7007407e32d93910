import pytest
import torch

from dictionary_learning.command import devices
from dictionary_learning.command.devices import (
    QUICKEST,
    SPREAD,
    dtype_for,
    find_device,
    tell_if_slow,
    times_as_long,
)
from dictionary_learning.errors import UserError


def test_a_device_that_is_there_is_taken():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "cpu:1", "meta"])
def test_a_device_that_is_not_there_is_told(name):
    with pytest.raises(UserError, match=f"--device {name} does not exist on this machine"):
        find_device(name)


def test_a_word_that_is_no_device_is_told():
    with pytest.raises(UserError, match="'gpu' is not a device: use cpu, cuda"):
        find_device("gpu")


def test_the_second_of_two_gpus_can_be_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="cuda:2 does not exist"):
        find_device("cuda:2")


@pytest.mark.parametrize(("takes", "dtype"), [(0.5, "bfloat16"), (0.9, "float32"), (4.5, "float32")])
def test_auto_is_bfloat16_where_that_is_clearly_quicker(takes, dtype, monkeypatch):
    monkeypatch.setattr(devices, "times_as_long", lambda name, kind: takes)
    for device in (None, SPREAD, "cpu", torch.device("cpu")):
        assert dtype_for(QUICKEST, device) == dtype
    assert dtype_for("float16") == "float16"


def test_a_dtype_is_timed_beside_float32_on_a_cpu_and_assumed_elsewhere(monkeypatch):
    monkeypatch.setattr(devices, "seconds_of", lambda candidates: {"float32": 2.0, "bfloat16": 7.0})
    assert times_as_long.__wrapped__("bfloat16", "cpu") == 3.5
    assert times_as_long.__wrapped__("float32", "cpu") == times_as_long.__wrapped__("bfloat16", "mps") == 1
    monkeypatch.setattr(devices, "seconds_of", lambda candidates: {"float32": 2.0})
    assert times_as_long.__wrapped__("float16", "cpu") == float("inf")  # not there at all
    for is_there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: is_there)  # noqa: B023
        assert (times_as_long.__wrapped__("bfloat16", "cuda") < 1) == is_there


@pytest.mark.parametrize("takes", [2.0, 70.0])
def test_a_dtype_that_the_processor_has_no_instructions_for_is_told(takes, monkeypatch, capsys):
    monkeypatch.setattr(devices, "times_as_long", lambda name, kind: takes)
    tell_if_slow("bfloat16", torch.device("cpu"), "--lm_dtype")
    told = (
        "products in bfloat16 take 70 times as long as in float32 on this cpu: --lm_dtype float32 is quicker."
    )
    assert (told in capsys.readouterr().err) == (takes > 3)


def test_processes_that_work_together_take_what_the_first_one_found(monkeypatch):
    monkeypatch.setattr(devices, "times_as_long", lambda name, kind: 0.5)
    told = []
    with devices.agreed(lambda own: told.append(own) or {"cpu": "float32"}):
        assert dtype_for(QUICKEST, "cpu") == "float32"
        assert dtype_for("float16", "cpu") == "float16"
    assert told[0]["cpu"] == dtype_for(QUICKEST, "cpu") == "bfloat16"


def test_candidates_are_timed_on_one_thread_whose_number_is_as_before_even_after_a_fault():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = []
        devices.seconds_of({"one": lambda: seen.append(torch.get_num_threads())}, rounds=2)
        assert seen == [1, 1, 1]
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            devices.seconds_of({"one": lambda: 1 // 0})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
