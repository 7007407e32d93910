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

import dataclasses
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.command.progress import TokenProgress, say
from dictionary_learning.dictionaries.base import Dictionary, chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.runs.provenance import provenance
from temporal_saes.browser.neuronpedia import Place, Words, write_neuronpedia
from temporal_saes.browser.page import Browser, write_browser
from temporal_saes.experiment.options import BASELINE, ExperimentOptions
from temporal_saes.experiment.subjects import LanguageModels, Subject, resolve
from temporal_saes.experiment.texts import labelled_texts
from temporal_saes.features import read_activations
from temporal_saes.latents.codes import CodesOfContexts, codes_of_store, codes_of_texts
from temporal_saes.latents.explanations import find_explanations, read_scores
from temporal_saes.latents.facts import LatentFacts, study
from temporal_saes.latents.smoothness import LatentSmoothness
from temporal_saes.similarity.sentences import Sentence, encode_sentence, read_sentences
from temporal_saes.sparsity import reading_l0

EXPERIMENT = "dashboard"
SHORT_TEXT = 16  # tokens; texts are not shorter on average
EXPLANATION_METHOD = "temporal_saes_autointerp"
SET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class DashboardOptions(ExperimentOptions):
    """What a feature browser can be asked."""

    chunk: int = option(2, "latents to show: 0 the high-level split, 1 the rest, 2 all", group="run")
    max_tokens: int = option(200_000, "tokens of the texts that are read, at most", group="data")
    activations: str | None = option(
        None,
        "folder that cache_activations wrote, in place of --dataset and the language model",
        group="data",
    )
    part: str = option("eval", "part of --activations that is read: train, eval or all", group="data")
    latents: tuple[int, ...] | None = option(
        None, "show only these latents, counted in the whole dictionary", group="pages"
    )
    n_top: int = option(12, "strongest examples of a latent", group="pages")
    per_quantile: int = option(3, "examples of each fifth of a latent's range", group="pages")
    texts: str | None = option(
        None, "file of sentences to show with their latents, one a line", group="pages"
    )
    explanation_path: str | None = option(
        None, "explanations.json of the dictionary; the one beside its weights if not given", group="pages"
    )
    scores: str | None = option(
        None, "result of SAEBench's autointerp evaluation, for the scores of explanations", group="pages"
    )
    neuronpedia: str | None = option(
        None, "write the files that Neuronpedia takes, too, for a set of this name", group="neuronpedia"
    )
    neuronpedia_model: str | None = option(
        None, "id of the language model on Neuronpedia, such as gemma-2-2b", group="neuronpedia"
    )
    explained_by: str | None = option(
        None, "the model that wrote the explanations, as Neuronpedia names it", group="neuronpedia"
    )
    overwrite: bool = option(False, "replace a browser that is in the output folder", group="result")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_tokens", "n_top", "per_quantile"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)} is too small: give at least 1.")
        if self.neuronpedia is not None and not SET_NAME.fullmatch(self.neuronpedia):
            raise UserError(
                f"--neuronpedia {self.neuronpedia} is no name of a set: use small letters, digits and dashes."
            )
        if self.neuronpedia is not None and self.neuronpedia_model is None:
            raise UserError("--neuronpedia needs --neuronpedia_model, the id of the language model there.")
        if self.part not in ("train", "eval", "all"):
            raise UserError(f"--part {self.part} does not exist: give train, eval or all.")


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, DashboardOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Write the browser.

    Raises:
        UserError: a mistake in the options, the run or the files, before the language model is loaded
            wherever it can be seen then.
    """
    options = build(DashboardOptions, vars(parser().parse_args(argv)))
    subject = resolve(options)
    dictionary = subject.load_dictionary(options.device)
    if dictionary is None:
        raise UserError(f"--run_name {BASELINE} has no latents to look at: give the run of a dictionary.")
    columns = chunk_slice(dictionary, options.chunk)
    shown = _shown(options.latents, columns)
    explanations = find_explanations(options.explanation_path, subject.trainer_folder, dictionary.dict_size)
    scores = read_scores(options.scores, dictionary.dict_size) if options.scores else {}
    sentences = read_sentences(options.texts) if options.texts else []
    folder = output_folder(subject, options)
    check_folder(folder, options.overwrite)
    source = _Source(options, subject)

    lm = LanguageModels(options.device).get(subject)
    smoothness = LatentSmoothness(columns.stop - columns.start)
    with reading_l0() as l0:
        facts = study(
            source.codes(lm, dictionary, columns, smoothness),
            smoothness,
            dictionary,
            columns,
            lm,
            n_top=options.n_top,
            per_quantile=options.per_quantile,
            context_length=source.context_length,
            seed=options.seed,
        )
    sparsity = l0.told(subject.name)
    browser = Browser(
        name=_name(subject),
        about=_about(subject, facts, source),
        facts=facts,
        shown=shown,
        explanations=explanations,
        scores=scores,
        sentences=_encode(sentences, subject, options, lm, dictionary, columns),
        made={"options": dataclasses.asdict(options), "provenance": provenance()} | sparsity,
    )
    _write(folder, browser, lm, subject, options)
    print(folder / "index.html")


def output_folder(subject: Subject, options: DashboardOptions) -> Path:
    """`--output_dir` itself, or `<run>/dashboard/<what is shown>`."""
    if options.output_dir is not None:
        return Path(options.output_dir).resolve()
    return subject.result_path(options, EXPERIMENT).resolve()


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise a UserError if the folder holds something, unless it is a browser that may be replaced."""
    if folder.is_file():
        raise UserError(f"{folder} is a file: give another --output_dir.")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise UserError(
                f"{folder} is not empty: give --overwrite to replace it, or another --output_dir."
            )
        if not (folder / "browser.json").is_file():
            raise UserError(f"{folder} holds something else than a browser: give another --output_dir.")
    check_writable(folder.parent)


def _shown(latents: Sequence[int] | None, columns: slice) -> list[int]:
    """The latents that get a page, counted in the chunk."""
    if latents is None:
        return list(range(columns.stop - columns.start))
    for latent in latents:
        if not columns.start <= latent < columns.stop:
            raise UserError(
                f"--latents {latent} is not among the latents {columns.start} to {columns.stop - 1} that "
                f"--chunk asks for."
            )
    return sorted({latent - columns.start for latent in latents})


class _Source:
    """Where contexts come from: a data set through the language model, or activations on disk."""

    def __init__(self, options: DashboardOptions, subject: Subject) -> None:
        """Raises UserError where they are not there."""
        self.options, self.subject = options, subject
        self.cache: Any = None
        self.texts: list[str] = []
        self.context_length = subject.context_length
        if options.activations is None:
            most = max(1, options.max_tokens // SHORT_TEXT)
            n_texts = most if options.max_texts is None else min(most, options.max_texts)
            self.texts = [text.text for text in labelled_texts(options, n_texts, needs_label=False)]
            self.name = options.dataset
            return
        from dictionary_learning.activations.cache import ActivationCache

        self.cache = ActivationCache.open(options.activations)
        self.cache.check({"model": subject.model, "layer": subject.layer, "lm_dtype": subject.lm_dtype})
        self.cache.check_complete(options.part)
        self.context_length = int(self.cache.options["context_length"])
        self.name = f"{self.cache.options['dataset']}, the part {options.part}"

    def codes(
        self, lm: LanguageModel, dictionary: Dictionary, columns: slice, smoothness: LatentSmoothness
    ) -> Iterator[CodesOfContexts]:
        """Codes of the contexts, as many as were asked for.

        Raises:
            UserError: as `read_activations` and `ActivationCache.store`.
        """
        if self.cache is None:
            reading = self.subject.reading(self.options)
            activations = read_activations(self._enough(lm), lm, self.subject.layer, reading)
            yield from codes_of_texts(activations, dictionary, columns, watch=smoothness.add)
            return
        from dictionary_learning.language_model.fingerprint import fingerprints

        self.cache.check_model(fingerprints(lm, self.subject.layer))
        ratio = self.subject.max_norm_ratio
        store = self.cache.store(
            self.options.part, max_tokens=self.options.max_tokens, max_norm_ratio=ratio, log=say
        )
        total = min(
            self.options.max_tokens,
            sum(shard.n_tokens for shard in self.cache.parts[self.options.part].shards),
        )
        with ExitStack() as stack:
            progress = TokenProgress(total, 0, "codes")
            stack.callback(progress.close)
            for chunk in codes_of_store(store, dictionary, columns, watch=smoothness.add):
                progress.add(int(chunk.usable_T.sum()))
                yield chunk

    def _enough(self, lm: LanguageModel) -> list[str]:
        """The first texts that together have as many tokens as may be read."""
        n_tokens = 0
        enough: list[str] = []
        for first in range(0, len(self.texts), 256):
            some = self.texts[first : first + 256]
            _, mask_BL, _ = lm.tokenize(some, self.context_length)
            for text, length in zip(some, mask_BL.sum(1).tolist(), strict=True):
                n_tokens += length
                if n_tokens > self.options.max_tokens and enough:
                    return enough
                enough.append(text)
        return enough


def _encode(
    texts: list[str],
    subject: Subject,
    options: DashboardOptions,
    lm: LanguageModel,
    dictionary: Dictionary,
    columns: slice,
) -> list[Sentence]:
    if not texts:
        return []

    reading = dataclasses.replace(subject.reading(options), cache=False)
    activations = read_activations(texts, lm, subject.layer, reading)
    pairs = zip(texts, activations, strict=True)
    return [encode_sentence(text, x, dictionary, columns) for text, x in pairs]


def _name(subject: Subject) -> str:
    """The run, and the split if not all latents are shown."""
    run = Path(subject.run_name).name
    return run if subject.split == "all" else f"{run}, {subject.split}"


def _about(subject: Subject, facts: LatentFacts, source: _Source) -> dict[str, str]:
    """The facts at the head of the index."""
    from dictionary_learning.command import figures

    return {
        "dictionary": f"{figures.method_of(subject.dict_class)}, {facts.n_latents:,} latents",
        "language model": f"{subject.model}, layer {subject.layer}",
        "texts": source.name,
        "read": f"{facts.examples.n_tokens:,} tokens in {facts.examples.n_contexts:,} contexts",
    }


def _write(
    folder: Path, browser: Browser, lm: LanguageModel, subject: Subject, options: DashboardOptions
) -> None:
    """Write beside the folder and move there, so that a browser is whole or not at all."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        write_browser(part, browser, lm.tokenizer)
        if options.neuronpedia is not None and options.neuronpedia_model is not None:
            write_neuronpedia(
                part / "neuronpedia",
                browser.facts,
                browser.shown,
                Place(options.neuronpedia_model, subject.layer, options.neuronpedia, browser.about["texts"]),
                Words(browser.explanations, EXPLANATION_METHOD, options.explained_by or ""),
                lm.tokenizer,
                browser.made,
            )
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


if __name__ == "__main__":
    cli.run(main)
