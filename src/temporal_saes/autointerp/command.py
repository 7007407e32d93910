"""Automatic interpretation: latents explained in words, and how well words tell where they are active.

    python src/experiments/autointerp.py --run_name demo
    python src/experiments/autointerp.py --run_name demo --latents 12 345 --explainer_model demo
    python src/experiments/autointerp.py --run_name demo --explainer_url http://localhost:8000/v1 \\
        --explainer_model meta-llama/Llama-3.3-70B-Instruct --max_cost_tokens 1000000
    python src/experiments/autointerp.py --run_name demo --explainer_model ... --explanation_path old.json

--n_latents living latents of each split are drawn by --seed (high and low, or predicted and novel), or
--latents are taken. Half of the texts are explained from, the other half is scored on.

Without a language model that is asked, three numbers a latent:
  token_share   share of the activation's variance over held-out tokens that the current token tells
  token_auc     which tokens of a window are active, told by the token
  window_auc    which windows contain the latent, told by their words (naive Bayes)
each beside what the same rule learns from activations that were dealt out at random.

With one (--explainer_model: a name at --explainer_url, any OpenAI-compatible server with its key in
OPENAI_API_KEY, or without that a local model with a chat template) an explanation and two scores:
  detection     told the explanation, which whole windows contain the latent? Half do
  fuzzing       told the explanation, in which windows are the marks right? In half they are
both the mean of the two shares of right answers, chance .5. What it will cost is said first; every answer is
kept as soon as it is there, so that the same command goes on after a stop and pays nothing twice.

Writes the folder <run>/autointerp/<data set>_chunk<c>_<model>-<hash of the options>/: scores.json with all
numbers and options, the figure scores.png (and .pdf), and with a model explanations.json, which every
experiment takes (--explanation_path), sae_bench_eval_results.json, and answers.jsonl.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command.options import Parser
from dictionary_learning.errors import UserError
from temporal_saes.autointerp.folder import ANSWERS, folder_of, held, save, save_question
from temporal_saes.autointerp.options import LIMITS, AutointerpOptions
from temporal_saes.chat.journal import RecordedChat
from temporal_saes.chat.model import Chat
from temporal_saes.chat.server import ChatServer
from temporal_saes.chat.token_budget import TokenBudget
from temporal_saes.experiment.command import command_line, print_files, read_options
from temporal_saes.experiment.results import asked
from temporal_saes.experiment.subjects import LanguageModels, Subject, check_latents, resolve
from temporal_saes.experiment.texts import identities, labelled_texts
from temporal_saes.latents.explanations import read_explanations
from temporal_saes.sparsity import reading_l0

EXPERIMENT = "autointerp"
MAX_TEXTS = 1100  # of the data set, where no --max_texts says: a hundred for each of the demo's classes


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, AutointerpOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Interpret latents of one run.

    Raises:
        UserError: a mistake in the options, the run, the explanations or the server, before the language
            model is loaded wherever it can be seen then; or a folder of results of something else.
    """
    options = read_options(AutointerpOptions, parser(), argv)

    from dictionary_learning.runs.provenance import provenance
    from temporal_saes.autointerp.interpreter import templates_hash
    from temporal_saes.autointerp.result import result_of, table
    from temporal_saes.autointerp.sample import check_explained, draw_sample, offline_records
    from temporal_saes.autointerp.study import Interpretation
    from temporal_saes.naming.names import Labels

    subject = resolve(options)
    dictionary = subject.load_dictionary("cpu")
    if dictionary is None:
        raise UserError(f"{subject.name} has no latents to interpret: give a run with a dictionary.")
    explained: dict[int, str] = {}
    if options.explanation_path is not None:
        explained = read_explanations(options.explanation_path, dictionary.dict_size)
    check_latents(options.latents or (), subject, dictionary)
    check_explained(subject, dictionary, options, explained)
    texts = labelled_texts(options, options.max_texts or MAX_TEXTS, needs_label=False)
    # titles and classes are told to a model that is asked
    told = [*identities(texts), *(text.title for text in texts)]
    question = _question(subject, options, [*told, json.dumps(explained), templates_hash()])
    folder = folder_of(EXPERIMENT, subject, options, question)
    with held(folder):
        chat = _chat(options, folder)
        models = LanguageModels.of(options)
        lm = models.get(subject)
        dictionary = dictionary.to(lm.device)

        with reading_l0() as l0:
            sample = draw_sample(subject, dictionary, [text.text for text in texts], lm, options, explained)
        sparsity = l0.told(subject.name)
        records = offline_records(sample, options.seed)
        save_question(folder, question)
        interpretation = None
        if chat is not None:
            labels = Labels([text.title for text in texts], [text.label for text in texts])
            interpretation = Interpretation(sample, records, chat, options, lm, explained, labels)
            interpretation.run()
        result = {
            "experiment": EXPERIMENT,
            **question,
            "name": subject.name,
            **sparsity,
            **result_of(sample, records, len(texts), interpretation, options),
            "provenance": provenance(),
        }
        print_files(save(folder, result, interpretation))
    print(table(result))


def _question(subject: Subject, options: AutointerpOptions, texts: Sequence[str]) -> dict[str, Any]:
    """All that decides the result, without the limits within which it is made."""
    question = asked(subject, options, texts)
    for name in LIMITS:
        del question["options"][name]
    return question


def _chat(options: AutointerpOptions, folder: Path) -> RecordedChat | None:
    """Who is asked: a server, which must be there, or a local model; None without one.

    Raises:
        UserError: there will be no answers.
    """
    if options.explainer_model is None:
        return None
    budget = TokenBudget(options.max_cost_tokens)
    chat: Chat
    if options.explainer_url is None:
        from dictionary_learning.language_model import LanguageModel
        from temporal_saes.chat.local import LocalChat

        dtype = options.lm_dtype or "float32"
        lm = LanguageModel.load(options.explainer_model, device=options.device, dtype=dtype)
        chat = LocalChat(lm, options.max_answer_tokens, budget=budget, time_limit=options.time_limit)
    else:
        chat = ChatServer(
            options.explainer_url,
            options.explainer_model,
            timeout=options.explainer_timeout,
            attempts=options.attempts,
            workers=options.concurrency,
            max_tokens=options.max_answer_tokens,
            budget=budget,
            time_limit=options.time_limit,
            role="explainer",
        )
    recorded = RecordedChat(chat, folder / ANSWERS)
    recorded.check()
    return recorded
