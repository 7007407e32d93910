"""Training by several processes is training by one: the number of processes is no hyper-parameter."""

from typing import Any

import pytest
import torch
import warm
from distributed import worlds

OF_EVERY_SIZE = [
    "temporal_paper",
    "temporal_runs",
    "temporal_texts",
    "top_k",
    "standard",
    "attention_batchtopk",
]
RUNS = [(2, name) for name in worlds.CASES] + [(size, name) for size in (3, 4) for name in OF_EVERY_SIZE]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """Of every case, by the number of processes."""
    folder = tmp_path_factory.mktemp("worlds")
    found = {}
    for size, names in ((1, []), (2, []), (3, OF_EVERY_SIZE), (4, OF_EVERY_SIZE)):
        path = folder / f"{size}.pt"
        done = warm.run([worlds.__file__, path, size, *names], folder)
        assert done.returncode == 0, done.stderr
        found[size] = torch.load(path, weights_only=True)
    return found


@pytest.mark.parametrize(("size", "name"), RUNS)
def test_after_a_dozen_steps_weights_and_counters_are_those_of_one_process(
    size: int, name: str, results: dict[int, dict[str, Any]]
) -> None:
    alone, together = results[1][name], results[size][name]
    for parameter, value in alone["weights"].items():
        torch.testing.assert_close(together["weights"][parameter], value, atol=1e-5, rtol=0, msg=parameter)
    assert torch.equal(together["fired"], alone["fired"])
    torch.testing.assert_close(together["losses"], alone["losses"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(together["thresholds"], alone["thresholds"], rtol=1e-5, atol=1e-6)
    for fact, value in alone["calibrated"].items():
        assert float(together["calibrated"][fact]) == pytest.approx(float(value), rel=1e-5)


@pytest.mark.parametrize(("size", "name"), RUNS)
def test_every_process_knows_the_metrics_of_the_whole_batch(
    size: int, name: str, results: dict[int, dict[str, Any]]
) -> None:
    for alone, together in zip(results[1][name]["metrics"], results[size][name]["metrics"], strict=True):
        assert together.keys() == alone.keys()
        for metric, value in alone.items():
            # a difference of nearly equal sums, such as an FVE near 0, has rounding of its own
            torch.testing.assert_close(together[metric], value, rtol=1e-4, atol=2e-6, msg=metric)


def test_the_cases_have_what_goes_wrong_elsewhere(results: dict[int, dict[str, Any]]) -> None:
    data = worlds.batches("pairs")
    assert len(data[-1]) % 4  # a last batch that four processes do not divide
    assert not data[worlds.WITHOUT_CODES][: worlds.B // 4].any()  # a process without a single code
    measured = results[1]["temporal_paper"]["metrics"]
    assert any(0 < float(metrics["dead_share"]) < 1 and float(metrics["auxk"]) > 0 for metrics in measured)
