"""The figure of probing: what a few latents tell, task by task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command import figures
from temporal_saes.experiment.results import colours
from temporal_saes.probing.options import POOLS, TASKS


def draw(results: Sequence[Mapping[str, Any]], path: Path) -> list[Path]:
    """Accuracy against k, a panel a task, a line a subject, with interval, chance and majority.

    Returns:
        the files written.
    """
    tasks = [task for task in TASKS if task in results[0]["tasks"]]
    methods = [figures.method_of(result["subject"]["dict_class"]) for result in results]
    ks = [str(k) for k in results[0]["options"]["k"]]
    at = np.arange(len(ks))
    with figures.style():
        fig, axes = figures.subplots(1, len(tasks), figsize=(3.4 * len(tasks) + 0.6, 3.6), squeeze=False)
        for axis, task in zip(axes[0], tasks, strict=True):
            for number, (result, method, colour) in enumerate(
                zip(results, methods, colours(results), strict=True)
            ):
                numbers = result["tasks"][task]["accuracy"]
                mean, low, high = (
                    np.array([one[key] for one in numbers], float) for key in ("mean", "low", "high")
                )
                is_dense = method == figures.method_of("baseline_model")
                label = figures.as_written(result["name"] + ("" if is_dense else f" ({method})"))
                look: Any = {"marker": figures.SHAPES[number % len(figures.SHAPES)], "markersize": 4}
                if len(ks) > 1:
                    axis.plot(at, mean, color=colour, label=label, **look)
                    axis.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
                else:  # a band of one k has no width
                    beside = at + (number - (len(results) - 1) / 2) * 0.8 / len(results)
                    errors = np.stack([mean - low, high - mean])
                    axis.errorbar(
                        beside, mean, yerr=errors, linestyle="none", color=colour, label=label, **look
                    )
            first = results[0]["tasks"][task]
            axis.axhline(
                first["majority"], color="#444444", linewidth=1, linestyle="--", label="majority class"
            )
            axis.axhline(first["chance"], color="#444444", linewidth=1, linestyle=":", label="chance")
            pool = results[0]["options"].get("pool")
            of = (
                ""
                if pool is None or task != "semantics"
                else f", {pool}"
                if pool in POOLS
                else f", {pool} tokens"
            )
            axis.set_title(f"{task}{of} ({first['n_classes']} classes)")
            axis.set_xticks(at, ks)
            axis.set_xlabel("latents a class")
            axis.set_ylim(0, 1)
            axis.set_xlim(at[0] - 0.5, at[-1] + 0.5)
        axes[0, 0].set_ylabel("test accuracy")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figures.legend_below(fig, handles, labels)
        return figures.save(fig, path, pdf=True)
