"""Names of results: all that makes other numbers of the same run and data set stands in them."""

import hashlib
import json
from dataclasses import fields
from pathlib import Path

from dictionary_learning.texts.names import slug
from temporal_saes.alignment.options import PAPER_PAIRS, AlignmentOptions
from temporal_saes.experiment.options import ExperimentOptions

NAMED = ("subset", "split", "max_pairs", "max_records")  # by their values


def named(path: Path, options: AlignmentOptions) -> Path:
    """The path with all that makes another result of the same run and data set."""
    parts = [slug(options.subset)] if options.subset is not None else []
    parts += [f"split-{slug(options.split)}"] if options.split is not None else []
    parts += [f"{options.max_pairs}pairs"] if options.max_pairs != PAPER_PAIRS else []
    parts += [f"{options.max_records}records"] if options.max_records is not None else []
    shared = {field.name for field in fields(ExperimentOptions)}
    others = {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if field.name not in {*shared, *NAMED, "explanation_path", "compare"}
        and getattr(options, field.name) != field.default
    }
    if others:
        parts.append(hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()[:6])
    return path.with_name("_".join([path.name, *parts]))
