"""Steering: push latents while the language model writes, and see what is gained and what it costs.

    python src/experiments/steering.py --run_name demo --chunk 0
    python src/experiments/steering.py --run_name demo --latents 12 345 --mode clamp --strengths 0 1 2
    python src/experiments/steering.py --compare tsae:0 matryoshka:0 batch_top_k --n_latents 11
    python src/experiments/steering.py --run_name demo --judge_url http://localhost:8000/v1 --judge_model NAME

The model continues each prompt of --prompts while a latent's decoder direction is added to the layer's
output, or the latent is clamped (T-SAE, arXiv 2511.05541, steering). Strengths are multiples of the
latent's largest activation over the data set, or (--unit raw) the length of the vector that is added; the
paper's are 10 to 15000. All latents and strengths are written in the same batches. Unless --no_control,
every push is repeated along a random direction of the same length: what that does, any push does.

Latents are given, or chosen by a rule among those that fire at 10 tokens or more: `domain`, the classes of
the data set in turn, each the latent that is most selective for it; `random`; `active`, those that fire
most often.

Each text is scored by the model without steering:
  coherence   nats a token it is more surprised by, and repetition (three tokens in a row seen before)
  success     probability of the class in which the latent is most active, by a probe on the model's own
              activations; the latent's activation read back; and how much likelier the latent's own top
              tokens (through the unembedding) become where the text is the same
With a judge (--judge_model: a name at --judge_url, any OpenAI-compatible server with its key in
OPENAI_API_KEY, or without that a local model with a chat template) also success and coherence, 0 to 3.
The judge is told the latent's explanation (--explanation_path, or explanations.json beside the weights),
or where it is strongest in the data set.

Writes <run>/steering/<data set>_chunk<c>_<mode>-<hash of the options>.json with every text and all options, a
page to read (.html) and the frontier (.png, .pdf). --compare puts several runs in one figure; results that
were computed with the same options are taken from there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.options import Parser, add_options, build
from dictionary_learning.command.progress import say
from dictionary_learning.dictionaries.base import chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.runs.provenance import provenance
from temporal_saes.chat.local import LocalChat
from temporal_saes.chat.model import Chat
from temporal_saes.chat.server import ChatServer
from temporal_saes.experiment.results import asked, comparison_path, finished, told_apart
from temporal_saes.experiment.subjects import (
    LanguageModels,
    Subject,
    check_one_model,
    resolve,
    resolve_several,
)
from temporal_saes.experiment.texts import labelled_texts
from temporal_saes.latents.explanations import find_explanations
from temporal_saes.steering.figure import draw
from temporal_saes.steering.judge import templates_hash
from temporal_saes.steering.options import SteeringOptions
from temporal_saes.steering.page import steering_page
from temporal_saes.steering.pushes import check_mode
from temporal_saes.steering.study import DEFAULT_PROMPTS, Study, read_prompts

MAX_TEXTS = 1100  # of the data set, where no --max_texts says: a hundred for each of the demo's classes


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, SteeringOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Steer one run, or compare several.

    Raises:
        UserError: a mistake in the options, the run, the prompts or the judge, before the language model is
            loaded wherever it can be seen then, and before anything is generated.
    """
    options = build(SteeringOptions, vars(parser().parse_args(argv)))
    prompts = read_prompts(options.prompts or DEFAULT_PROMPTS)
    subjects = resolve_several(options.compare, options) if options.compare else [resolve(options)]
    check_one_model(subjects)
    explanations = [_check_subject(subject, options) for subject in subjects]
    texts = labelled_texts(options, options.max_texts or MAX_TEXTS)
    read = [*(f"{text.id:016x}{text.label}" for text in texts), *prompts, templates_hash()]
    plans = []
    for subject, said in zip(subjects, explanations, strict=True):
        question = asked(subject, options, [*read, json.dumps(said)])
        path = told_apart(subject.result_path(options, "steering"), options.mode, question)
        check_writable(path.parent)
        plans.append(_Plan(subject, said, question, path))
    study = Study(options, prompts, texts, LanguageModels(options.device), _chat(options))
    results = []
    for plan in plans:
        result = finished(plan.path, plan.question) if options.compare else None
        if result is None or (result["judge"] or {}).get("gave_up"):
            result = _steer(study, plan)
        else:
            say(f"{plan.subject.name}: taken from {plan.path}.json")
        results.append(result)
        print(table(result))
    if options.compare:
        path = comparison_path(subjects, options, "steering")
        for file in draw(results, told_apart(path, options.mode, plans[0].question)):
            print(file)


def _steer(study: Study, plan: "_Plan") -> dict[str, Any]:
    """The result of one dictionary, written with its figure and its page."""
    result = {
        "experiment": "steering",
        **plan.question,
        "name": plan.subject.name,
        **study.steer(plan.subject, plan.explanations),
        "provenance": provenance(),
    }
    path = plan.path
    json_path, page_path = (path.with_name(path.name + suffix) for suffix in (".json", ".html"))
    save_text(json_path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    drawn = draw([result], path)
    save_text(page_path, steering_page(result, drawn[0].read_bytes()))
    for file in (json_path, page_path, *drawn):
        print(file)
    return result


class _Plan(NamedTuple):
    """One dictionary that is to be steered with."""

    subject: Subject
    explanations: dict[int, str]
    question: dict[str, Any]
    path: Path


def _check_subject(subject: Subject, options: SteeringOptions) -> dict[int, str]:
    """The explanations of a subject that can be steered with.

    Raises:
        UserError: it has no latents, not those asked for, or cannot be clamped.
    """
    dictionary = subject.load_dictionary("cpu")
    if dictionary is None:
        raise UserError(f"{subject.name} has no latents to push: give a run with a dictionary.")
    check_mode(options.mode, dictionary)
    columns = chunk_slice(dictionary, subject.chunk)
    for latent in options.latents or ():
        if not 0 <= latent < dictionary.dict_size:
            raise UserError(
                f"--latents {latent} is out of range: {subject.name} has the latents 0 to "
                f"{dictionary.dict_size - 1}."
            )
        if not columns.start <= latent < columns.stop:
            raise UserError(
                f"--latents {latent} is not in chunk {subject.chunk}, which is {columns.start} to "
                f"{columns.stop - 1}: give the --chunk it is in, or 2 for all."
            )
    return find_explanations(options.explanation_path, subject.trainer_folder, dictionary.dict_size)


def _chat(options: SteeringOptions) -> Chat | None:
    """The judge: a server, which is asked once whether it is there, or a local model; None without one.

    Raises:
        UserError: there will be no answers.
    """
    if options.judge_model is None:
        return None
    if options.judge_url is None:
        return LocalChat(LanguageModel.load(options.judge_model, device=options.device))
    chat = ChatServer(
        options.judge_url, options.judge_model, timeout=options.judge_timeout, workers=options.judge_workers
    )
    chat.check()
    return chat


# --- what a person reads in the terminal ---

COLUMNS = {
    "nll_added": "surprise",
    "repetition_added": "repetition",
    "domain_gain": "domain",
    "activation_gain": "activation",
    "own_tokens_log10": "own tokens",
    "success": "success",
    "coherence": "coherence",
}


def table(result: Mapping[str, Any]) -> str:
    """Means over latents by strength, against the texts without steering, as text."""
    summary = result["summary"]
    names = list(COLUMNS) if result["judge"] else list(COLUMNS)[:-2]
    lines = [
        f"{result['name']}: {len(result['latents'])} latents, {len(result['prompts'])} prompts; change "
        f"against no steering (surprise in nats a token, own tokens in powers of ten)"
    ]
    lines.append(f"{'strength':>20}" + "".join(f"{COLUMNS[name]:>12}" for name in names))
    for part, word in (("steered", ""), ("control", "random ")):
        for point in summary[part]:
            cells = [point["measures"][name] for name in names]
            row = "".join(f"{'–' if cell is None else format(cell['mean'], '.3f'):>12}" for cell in cells)
            lines.append(f"{word + format(point['strength'], 'g'):>20}{row}")
    gains = []
    for part, word in (("steered", "latents"), ("control", "random directions")):
        gain = summary["while_coherent"][part]["domain_gain"]
        if gain is not None:
            half = "" if gain["high"] is None else f" ± {gain['high'] - gain['mean']:.3f}"
            gains.append(f"{word} {gain['mean']:.3f}{half}")
    if gains:
        lines.append(f"most gain of the domain while texts stay coherent: {', '.join(gains)}")
    if judge := result["judge"]:
        lines.append(
            f"judge {judge['model']}: {judge['asked']:,} answers, failed: {judge['failures'] or 'none'}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
