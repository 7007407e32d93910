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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dictionary_learning.command.files import save_text
from dictionary_learning.command.options import Parser
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from temporal_saes.chat.model import Chat
from temporal_saes.chat.server import ChatServer
from temporal_saes.experiment.command import (
    Case,
    case_of,
    check_places,
    command_line,
    print_files,
    read_options,
    save_answer,
    shared_path,
)
from temporal_saes.experiment.names import beside
from temporal_saes.experiment.over_seeds import over_seeds
from temporal_saes.experiment.results import finished, told_apart
from temporal_saes.experiment.subjects import (
    LanguageModels,
    Subject,
    check_latents,
    check_one_model,
    subjects_of,
)
from temporal_saes.experiment.texts import identities, labelled_texts
from temporal_saes.latents.explanations import find_explanations
from temporal_saes.steering.options import SteeringOptions
from temporal_saes.steering.prompts import DEFAULT_PROMPTS, read_prompts
from temporal_saes.steering.result import table

if TYPE_CHECKING:
    from temporal_saes.steering.study import Study

EXPERIMENT = "steering"
MAX_TEXTS = 1100  # of the data set, where no --max_texts says: a hundred for each of the demo's classes


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, SteeringOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Steer one run, or compare several.

    Raises:
        UserError: a mistake in the options, the run, the prompts or the judge, before the language model is
            loaded wherever it can be seen then, and before anything is generated.
    """
    over_seeds(EXPERIMENT, read_options(SteeringOptions, parser(), argv), run)


def run(options: SteeringOptions) -> list[dict[str, Any]]:
    """One trainer of each run; its results."""
    prompts = read_prompts(options.prompts or DEFAULT_PROMPTS)
    subjects = subjects_of(options)
    check_one_model(subjects)
    check_places(subjects, options, EXPERIMENT)
    explanations = [_check_subject(subject, options) for subject in subjects]

    from temporal_saes.probing.domain_probe import of_frequent_classes
    from temporal_saes.steering.figure import draw
    from temporal_saes.steering.judge import templates_hash
    from temporal_saes.steering.study import Study

    def rename(path: Path, question: Mapping[str, Any]) -> Path:
        return told_apart(path, options.mode, question)

    texts = of_frequent_classes(labelled_texts(options, options.max_texts or MAX_TEXTS))
    read = [*identities(texts), *prompts, templates_hash()]
    cases = [
        case_of(EXPERIMENT, subject, options, [*read, json.dumps(said)], rename)
        for subject, said in zip(subjects, explanations, strict=True)
    ]
    study = Study(options, prompts, texts, LanguageModels.of(options), _chat(options))
    results = []
    for case, said in zip(cases, explanations, strict=True):
        result = finished(case.path, case.question) if options.compare else None
        if result is None or (result["judge"] or {}).get("gave_up"):
            result = _steer(study, case, said)
        else:
            say(f"{case.subject.name}: taken from {case.path}.json")
        results.append(result)
        print(table(result))
    if options.compare:
        print_files(draw(results, shared_path(cases, options, rename)))
    return results


def _steer(study: "Study", case: Case, explanations: dict[int, str]) -> dict[str, Any]:
    """The result of one dictionary, written with its figure and its page."""
    from temporal_saes.steering.figure import draw
    from temporal_saes.steering.page import steering_page

    found = study.steer(case.subject, explanations)
    result = save_answer(case, found, indent=1, ensure_ascii=False)
    drawn = draw([result], case.path)
    page = beside(case.path, ".html")
    save_text(page, steering_page(result, drawn[0].read_bytes()))
    print_files([beside(case.path, ".json"), page, *drawn])
    return result


def _check_subject(subject: Subject, options: SteeringOptions) -> dict[int, str]:
    """The explanations of a subject that can be steered with.

    Raises:
        UserError: it has no latents, or not those asked for.
    """
    dictionary = subject.load_dictionary("cpu")
    if dictionary is None:
        raise UserError(f"{subject.name} has no latents to push: give a run with a dictionary.")
    check_latents(options.latents or (), subject, dictionary)
    return find_explanations(options.explanation_path, subject.trainer_folder, dictionary.dict_size)


def _chat(options: SteeringOptions) -> Chat | None:
    """The judge: a server, which is asked once whether it is there, or a local model; None without one.

    Raises:
        UserError: there will be no answers.
    """
    if options.judge_model is None:
        return None
    if options.judge_url is None:
        from dictionary_learning.language_model import LanguageModel
        from temporal_saes.chat.local import LocalChat

        return LocalChat(LanguageModel.load(options.judge_model, device=options.device))
    chat = ChatServer(
        options.judge_url, options.judge_model, timeout=options.judge_timeout, workers=options.judge_workers
    )
    chat.check()
    return chat
