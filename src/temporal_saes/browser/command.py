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
over once. --neuronpedia also writes the files that Neuronpedia takes, from the same pass.

Explanations are read from explanations.json beside the weights or from --explanation_path; scores from the
result of SAEBench's autointerp evaluation at --scores.
"""

from collections.abc import Sequence

from dictionary_learning.command.options import Parser
from dictionary_learning.errors import UserError
from temporal_saes.browser.folder import kept_for, output_folder, write_folder
from temporal_saes.browser.options import BrowserOptions
from temporal_saes.experiment.command import command_line, print_files, read_options
from temporal_saes.experiment.subjects import LanguageModels, check_latents, resolve
from temporal_saes.latents.explanations import find_explanations, read_scores

EXPERIMENT = "dashboard"


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, BrowserOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the browser.

    Raises:
        UserError: a mistake in the options, the run or the files, before the language model is loaded
            wherever it can be seen then.
    """
    options = read_options(BrowserOptions, parser(), argv)
    subject = resolve(options)
    dictionary = subject.load_dictionary(options.device)
    if dictionary is None:
        raise UserError(f"{subject.name} has no latents to look at: give the run of a dictionary.")
    check_latents(options.latents or (), subject, dictionary)
    explanations = find_explanations(options.explanation_path, subject.trainer_folder, dictionary.dict_size)
    scores = read_scores(options.scores, dictionary.dict_size) if options.scores else {}

    from temporal_saes.browser.source import Source
    from temporal_saes.browser.study import study
    from temporal_saes.similarity.sentences import read_sentences

    sentences = read_sentences(options.texts) if options.texts else []
    folder = output_folder(EXPERIMENT, subject, options)
    with kept_for(folder, options):
        source = Source(options, subject)
        lm = LanguageModels(options.lm_device or options.device).get(subject)
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
