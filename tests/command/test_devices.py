import pytest
import torch

from dictionary_learning.command.devices import find_device
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
