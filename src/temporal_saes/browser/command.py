"""A feature browser: a folder of static pages on every latent of a dictionary.

    python src/experiments/dashboard.py --run_name demo
    python src/experiments/dashboard.py --run_name demo --activations cache --part eval --max_tokens 30000
    python src/experiments/dashboard.py --run_name demo --texts sentences.txt --latents 3 14 15
    python src/experiments/dashboard.py --run_name demo --neuronpedia tsae-4k --neuronpedia_model smollm2-135m

Open index.html from the disk or from any web server: nothing is loaded from elsewhere and nothing has to
be built. The index lists the latents with density, split, explanation and score, to be searched, sorted and
filtered. The page of a latent shows where it is strongest and examples over its whole range (the tokens
coloured by its activation, the full context on a click), the histogram of its activations, the tokens
whose logits it raises and lowers, its neighbours by decoder cosine and by co-activation, and how smooth it
is over a text. --texts adds a page on sentences of your own: the latents of every token, and the similarity
matrix of the tokens (of a TemporalSAE's predicted codes).

Texts are those of --dataset, or those whose activations a cache on disk holds (--activations); both are gone
over once. Under torchrun the processes read them together, for the same pages:

    torchrun --nproc_per_node 8 src/experiments/dashboard.py --run_name demo

--neuronpedia also writes the files that Neuronpedia takes, from the same pass.

Explanations are read from explanations.json beside the weights or from --explanation_path; scores from the
result of SAEBench's autointerp evaluation at --scores.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from dictionary_learning.command.options import Parser, build
from dictionary_learning.command.processes import add_timeout, check_alike, is_first, n_processes, together
from dictionary_learning.errors import UserError
from dictionary_learning.language_model.sizes import check_width
from temporal_saes.browser.folder import kept_for, output_folder, write_folder
from temporal_saes.browser.options import BrowserOptions
from temporal_saes.experiment.command import command_line, print_files
from temporal_saes.experiment.subjects import LanguageModels, Subject, check_latents, resolve
from temporal_saes.latents.explanations import find_explanations, read_scores

if TYPE_CHECKING:
    from dictionary_learning.language_model import LanguageModel

EXPERIMENT = "dashboard"


def parser() -> Parser:
    """The command line."""
    made = command_line(__doc__, BrowserOptions)
    add_timeout(made)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Write the browser; under torchrun the processes go over the texts together, and the first one writes.

    Raises:
        UserError: a mistake in the options, the run or the files, before the language model is loaded
            wherever it can be seen then.
    """
    typed = vars(parser().parse_args(argv))
    with together(typed.pop("timeout")):
        if n_processes() > 1:
            from dictionary_learning.runs.provenance import versions

            check_alike({"flags": typed, "versions": versions()})
        _browse(build(BrowserOptions, typed))


def _browse(options: BrowserOptions) -> None:
    subject = resolve(options)
    dictionary = subject.load_dictionary(options.device)
    if dictionary is None:
        raise UserError(f"{subject.name} has no latents to look at: give the run of a dictionary.")
    check_width(dictionary, subject.model)
    check_latents(options.latents or (), subject, dictionary)
    explanations = find_explanations(options.explanation_path, subject.trainer_folder, dictionary.dict_size)
    scores = read_scores(options.scores, dictionary.dict_size) if options.scores else {}

    from temporal_saes.browser.source import Source
    from temporal_saes.browser.study import lend_a_hand, study
    from temporal_saes.similarity.sentences import read_sentences

    sentences = read_sentences(options.texts) if options.texts else []
    folder = output_folder(EXPERIMENT, subject, options)
    with kept_for(folder, options) if is_first() else nullcontext():
        source = Source(options, subject)
        lm = LanguageModels.of(options).get(subject)
        if n_processes() > 1:
            check_alike({"weights of the dictionary": subject.weights_hash(), **_facts(lm, subject)})
        if not is_first():
            lend_a_hand(subject, source, dictionary, lm)
            return
        browser = study(
            subject,
            options,
            source,
            dictionary,
            lm,
            explanations=explanations,
            scores=scores,
            sentences=sentences,
        )
        write_folder(folder, browser, lm, subject, options)
    print_files([folder / "index.html"])


def _facts(lm: "LanguageModel", subject: Subject) -> dict[str, str]:
    """What tells the language model from others."""
    from dictionary_learning.language_model.fingerprint import fingerprints

    return fingerprints(lm, subject.layer)
