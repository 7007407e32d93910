"""Maps of features in two dimensions, coloured by part of speech, domain and sequence.

    python src/experiments/tsne.py --run_name demo --chunk 0
    python src/experiments/tsne.py --compare demo:0 demo:1 baseline_model --dataset demo

A point is one token: --tokens_a_text of each text, drawn at random. Its features (the latents of the
chunk; or the activations themselves, without their mean, of baseline_model) are brought to unit length,
reduced to 50 principal components, and from there to two dimensions by --method. A token at which no
latent of the chunk is active has no direction and is left out; how many there are is told.

A map can show clusters where there are none and tear apart those there are. So each colouring is also
scored, in the map and in all features: the silhouette, and the share of the nearest neighbours that
have the same class; both beside the mean of the same labels dealt out anew (chance). Two of the
labels are easy for the wrong reason, so that neighbours are counted a second time:

pos     only among other words, as a word is near to itself whatever a code knows of grammar
domain  only among other texts, as the tokens of one text share its domain; chance deals out the
        domains of whole texts

Writes <run>/tsne/<dataset>_chunk<c>.json with all options, one interactive page (.html, a token in
its context under the pointer) and the figure (PNG and PDF) beside it. --compare puts several runs in
one page and figure; results that were computed with the same options are taken from there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command.files import save_text
from dictionary_learning.command.options import Parser
from temporal_saes.experiment.command import (
    case_of,
    check_places,
    command_line,
    print_files,
    read_options,
    results_of,
    shared_path,
)
from temporal_saes.experiment.names import beside
from temporal_saes.experiment.subjects import LanguageModels, Subject, check_one_model, cut_alike, subjects_of
from temporal_saes.experiment.texts import identities
from temporal_saes.labelled.parts_of_speech import check_tagger
from temporal_saes.maps.options import MapOptions
from temporal_saes.maps.result import table

EXPERIMENT = "tsne"


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, MapOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Map one run, or several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the data, or no tagger, before the language model
            runs.
    """
    options = read_options(MapOptions, parser(), argv)
    subjects = cut_alike(subjects_of(options))
    check_one_model(subjects)
    check_tagger()
    check_places(subjects, options, EXPERIMENT)

    from temporal_saes.maps.figure import draw
    from temporal_saes.maps.page import map_page
    from temporal_saes.maps.points import choose_texts
    from temporal_saes.maps.study import study

    models = LanguageModels.of(options)
    texts = choose_texts(options, models.get(subjects[0]), subjects[0].context_length)
    cases = [case_of(EXPERIMENT, subject, options, identities(texts), _rename) for subject in subjects]

    def draw_map(subject: Subject) -> dict[str, Any]:
        return study(subject, options, texts, models.get(subject))

    results = results_of(cases, options, draw_map, table)
    path = shared_path(cases, options, _rename)
    page = beside(path, ".html")
    drawn = draw(results, path)
    save_text(page, map_page(results, f"{path.name}.png"))
    print_files([*drawn, page])


def _rename(path: Path, question: Mapping[str, Any]) -> Path:
    """With the method, where it is not the usual one, so that maps do not overwrite each other."""
    method = question["options"]["method"]
    return path if method == "tsne" else beside(path, f"_{method}")
