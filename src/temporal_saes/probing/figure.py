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
            for result, method, colour in zip(results, methods, colours(results), strict=True):
                numbers = result["tasks"][task]["accuracy"]
                mean, low, high = (
                    np.array([one[key] for one in numbers], float) for key in ("mean", "low", "high")
                )
                name = result["name"] if method == figures.method_of("baseline_model") else None
                label = name or f"{result['name']} ({method})"
                axis.plot(at, mean, marker="o", markersize=4, color=colour, label=label)
                axis.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
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
        axes[0, 0].set_ylabel("test accuracy")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
        return figures.save(fig, path)
