"""Names of files, which tell results of other data, models and options apart."""

from pathlib import Path
from typing import NamedTuple

from dictionary_learning.texts.names import place_name, slug
from temporal_saes.experiment.options import ExperimentOptions


def beside(path: Path, suffix: str) -> Path:
    """The path with a suffix behind its name, which may have dots of its own."""
    return path.with_name(path.name + suffix)


class OfData(NamedTuple):
    """The options that name a data set."""

    dataset: str
    data_path: str | None = None
    text_field: str | None = None
    label_field: str | None = None
    categories: str | None = None


def dataset_name(options: ExperimentOptions | OfData) -> str:
    """The data set in a file name, with the fields that were chosen."""
    name = slug(options.dataset) if options.data_path else place_name(options.dataset)
    if options.data_path:
        name += f"-{place_name(options.data_path)}"
    fields = [slug(field) for field in (options.text_field, options.label_field) if field is not None]
    fields += [place_name(options.categories)] if options.categories is not None else []
    return "-".join([name, *fields])
