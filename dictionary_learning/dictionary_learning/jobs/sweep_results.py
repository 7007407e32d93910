"""What came of a sweep: its members side by side, as JSON, as a table and as a figure.

The numbers are those of the last line of each run's metrics.jsonl, so of a batch of the training data;
several seeds are averaged.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.command import figures
from dictionary_learning.command.files import save_text
from dictionary_learning.dictionaries.config_file import read_run_config
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.provenance import provenance

MEASURES = {"fve": "FVE", "l0": "L0", "dead_share": "dead", "loss": "loss"}


class Row(NamedTuple):
    """A member of a sweep."""

    name: str
    run: RunFolder
    fault: str | None
    """What was said where it failed."""


def save_results(folder: Path, rows: Sequence[Row]) -> str:
    """Write sweep.json and sweep.png into the folder; the table, in markdown."""
    members = [{"member": row.name, "run": str(row.run.path), **_facts(row)} for row in rows]
    content = {"experiment": "sweep", "provenance": provenance(), "members": members}
    save_text(folder / "sweep.json", json.dumps(content, indent=1) + "\n")
    _draw(folder / "sweep", [member for member in members if member.get("fve") is not None])
    return _table(members)


def _facts(row: Row) -> dict[str, Any]:
    """What the folder of a run says of how it went."""
    facts: dict[str, Any] = {"fault": row.fault}
    records = row.run.read_metrics()
    trainers = (
        [value for name, value in records[-1].items() if name.startswith("trainer_")] if records else []
    )
    for name in MEASURES:
        values = [trainer[name] for trainer in trainers if trainer.get(name) is not None]
        facts[name] = statistics.fmean(values) if values else None
    path = row.run.trainer(0) / "config.json"
    if path.is_file():
        config = read_run_config(path)["trainer"]
        facts |= {
            "method": figures.method_of(config.get("dict_class")),
            "steps_done": config.get("steps_done"),
        }
    if records:
        facts["seconds"] = records[-1].get("seconds")
    return facts


def _table(members: Sequence[dict[str, Any]]) -> str:
    lines = ["| | steps | " + " | ".join(MEASURES.values()) + " |", "|---" * (len(MEASURES) + 2) + "|"]
    for member in members:
        cells = [f"{member.get('steps_done', 0):,}", *(_cell(member[name]) for name in MEASURES)]
        name = member["member"] + (" (failed)" if member["fault"] else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _draw(path: Path, members: Sequence[dict[str, Any]]) -> None:
    """FVE over L0, a point a member."""
    members = [member for member in members if member.get("l0") is not None]
    if not members:
        return
    with figures.style():
        fig, ax = figures.subplots(figsize=(7.0, 4.5))
        for method in dict.fromkeys(member["method"] for member in members):
            own = [member for member in members if member["method"] == method]
            x, y = [member["l0"] for member in own], [member["fve"] for member in own]
            ax.scatter(x, y, color=figures.colour(method), label=figures.as_written(method), zorder=3)
            for member in own:
                at = (member["l0"], member["fve"])
                ax.annotate(
                    figures.as_written(member["member"]),
                    at,
                    textcoords="offset points",
                    xytext=(5, 3),
                    fontsize=7,
                )
        ax.set(xlabel="L0", ylabel="FVE", title="members, last training batch")
        ax.margins(x=0.15)
        ax.legend()
        figures.save(fig, path)
