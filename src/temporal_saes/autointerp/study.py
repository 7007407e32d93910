"""A chat model asked about the latents of a sample: their explanations, and what these tell.

    study = Interpretation(sample, records, chat, options, lm, explained={})
    study.run()                     # puts explanations and scores into the records

Shapes: K latents of the sample, C contexts.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.command.progress import SECONDS_BETWEEN_LINES, n_of, say
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.token_text import Stretch, stretches
from temporal_saes.autointerp.interpreter import (
    KINDS,
    Trial,
    Window,
    cut,
    detection_trial,
    explain_question,
    fuzzing_trial,
    read_explanation,
    read_list,
    score_trial,
    trial_questions,
)
from temporal_saes.autointerp.negatives import places
from temporal_saes.autointerp.options import AutointerpOptions
from temporal_saes.autointerp.sample import Sample
from temporal_saes.chat.journal import RecordedChat
from temporal_saes.chat.local import LOCAL_BATCH
from temporal_saes.chat.model import NOT_ASKED, OUT_OF_TIME, OVER_BUDGET, PUT_OFF, Answer, Conversation, tally
from temporal_saes.chat.token_budget import estimate_tokens
from temporal_saes.latents.codes import select
from temporal_saes.latents.collector import collect
from temporal_saes.latents.examples import Example
from temporal_saes.naming.names import Labels, Name, NameCollector

TYPICAL_EXPLANATION = "word " * 25  # in estimates, where the explanation is not known yet
TOKENS_OF_EXPLANATION, TOKENS_OF_LIST = 45, 25  # of typical answers
TOO_FEW = "too few windows"
WHY_STOPPED = {
    NOT_ASKED: "the server keeps failing",
    OVER_BUDGET: "--max_cost_tokens is used up",
    OUT_OF_TIME: "--time_limit is over",
}


class Material(NamedTuple):
    """What a model is shown of one latent."""

    shown: list[Window]
    trials: dict[str, Trial]
    name: Name


class Interpretation:
    """Asks a chat model about one latent after another, some at a time, and fills their records in.

    Args:
        records: of the sample's latents, in its order; changed in place.
        explained: explanations that are scored in place of new ones, by latent.
        lm: the language model whose tokens the texts are in.
        labels: titles and classes of the texts.
    """

    def __init__(
        self,
        sample: Sample,
        records: list[dict[str, Any]],
        chat: RecordedChat,
        options: AutointerpOptions,
        lm: LanguageModel,
        explained: Mapping[int, str],
        labels: Labels | None = None,
    ) -> None:
        self.sample, self.records, self.chat, self.options = sample, records, chat, options
        self.lm, self.explained = lm, explained
        self.asked = dict.fromkeys(("explanation", *KINDS), 0)
        self.failures: dict[str, dict[str, int]] = {what: {} for what in self.asked}
        self.stopped: str | None = None
        """Why not every latent was asked about; None where all were."""
        self._last_line = time.monotonic()
        self._learn, self._test = (
            collect(
                [select(sample.codes, which_C)],
                len(sample.latent_K),
                n_top=max(1, options.n_top),
                n_weighted=max(1, options.n_weighted),
                per_quantile=2 * options.n_test,  # strong parts have few, so that weak ones fill up
                window=options.window,
                seed=options.seed,
            )
            for which_C in (sample.halves.learn_C, sample.halves.test_C)
        )
        beside, test_C = sample.beside, sample.halves.test_C
        self._beside = None if beside is None else (select(sample.codes, test_C), select(beside, test_C))
        self.names = self._named(labels)
        self.materials = [self._material(k) for k in range(len(records))]

    def run(self) -> None:
        """Explain and score; stops early, and says so, where the budget, the time or the server does."""
        waiting = list(range(len(self.records)))
        costs = {k: self._cost(k, self.materials[k]) for k in waiting}
        self._announce(costs)
        at_a_time = max(2 * self.options.concurrency, LOCAL_BATCH)
        while waiting and self.stopped is None:
            block = self._affordable(waiting[:at_a_time], costs)
            if not block:
                self.stopped = OVER_BUDGET
                break
            waiting = waiting[len(block) :]
            self._explain(block)
            for kind in KINDS:
                self._score(kind, block)
            self._tell(len(self.records) - len(waiting))
        if self.stopped is not None:
            n = sum(self.is_complete(record) for record in self.records)
            say(
                f"stopped after {n} of {len(self.records)} latents, as {WHY_STOPPED[self.stopped]}: the same "
                f"command goes on from there."
            )

    @staticmethod
    def is_complete(record: Mapping[str, Any]) -> bool:
        """Whether everything was asked about it, whatever came back."""
        if record["explanation"] is None:
            return record["explanation_failure"] not in (None, *PUT_OFF)
        return all(record[kind] is not None for kind in KINDS)

    # --- what is asked ---

    def _named(self, labels: Labels | None) -> list[Name]:
        """What the latents are held over in the half that is explained from."""
        collector = NameCollector(len(self.sample.latent_K), self.lm.tokenizer)
        collector.add(select(self.sample.codes, self.sample.halves.learn_C))
        names = collector.result(labels)
        for record, name in zip(self.records, names, strict=True):
            record["held_over"] = name.as_json()
        return names

    def _material(self, k: int) -> Material:
        options = self.options
        generator = np.random.default_rng([options.seed, int(self.sample.latent_K[k])])
        shape = options.window, self._stretches
        shown = [cut(example, *shape) for example in self._learn.top(k, options.n_top)]
        shown += [cut(example, *shape) for example in self._learn.weighted(k, options.n_weighted)]
        with_it = [cut(one, *shape, generator) for one in in_turns(self._test.quantiles(k))]
        without_it = [cut(one, *shape, generator) for one in self._silent(k)]
        trials = {
            "detection": detection_trial(with_it[: options.n_test], without_it, generator),
            "fuzzing": fuzzing_trial(with_it[: 2 * options.n_test], generator),
        }
        return Material(list(dict.fromkeys(shown)), trials, self.names[k])

    def _silent(self, k: int) -> list[Example]:
        """Held-out examples without the latent: beside its neighbours first, if those are asked for."""
        options = self.options
        found: list[Example] = []
        if self._beside is not None:
            seed = [options.seed, int(self.sample.latent_K[k])]
            hard = places(*self._beside, k, options.n_test, options.window, seed)
            found = [self._test.around(k, *place) for place in hard]
            self.records[k]["n_beside_neighbours"] = len(found)
        taken = {one.context for one in found}
        others = [
            one for one in self._test.silent(k, options.n_test, options.seed) if one.context not in taken
        ]
        return [*found, *others][: options.n_test]

    def _stretches(self, ids: Sequence[int]) -> list[Stretch]:
        """Tokens as text; special ones say nothing."""
        return [
            one._replace(text="") if ids[one.start] in self.lm.special_ids else one
            for one in stretches(self.lm.tokenizer, ids)
        ]

    def _questions(self, kind: str, material: Material, explanation: str) -> list[Conversation]:
        return trial_questions(kind, material.trials[kind], explanation, self.options.per_question)

    # --- what it costs ---

    def _cost(self, k: int, material: Material) -> int:
        """About how many tokens a latent will cost that are not paid yet."""
        explanation = self.explained.get(int(self.sample.latent_K[k]))
        cost = 0
        if explanation is None and not self.explained and material.shown:
            asked = explain_question(material.shown, material.name)
            if self.chat.is_answered(asked):
                explanation = read_explanation(self.chat.complete([asked])[0].text or "")
            else:
                cost += estimate_tokens(asked) + TOKENS_OF_EXPLANATION
        for kind in KINDS:
            for asked in self._questions(kind, material, explanation or TYPICAL_EXPLANATION):
                if not self.chat.is_answered(asked):
                    cost += estimate_tokens(asked) + TOKENS_OF_LIST
        return cost

    def _announce(self, costs: Mapping[int, int]) -> None:
        total, budget = sum(costs.values()), self.chat.budget
        found = f" ({self.chat.n_found:,} answers are there)" if self.chat.n_found else ""
        limit = ""
        if budget.limit is not None:
            limit = f"; {budget.left:,} of --max_cost_tokens {budget.limit:,} are left"
            if budget.left is not None and total > budget.left:
                affordable = np.searchsorted(np.cumsum(list(costs.values())), budget.left, side="right")
                limit += f", enough for about {n_of(int(affordable), 'latent')}"
        say(f"{self.chat.name}: {n_of(len(costs), 'latent')}, about {n_of(total, 'token')}{found}{limit}.")

    def _affordable(self, block: list[int], costs: Mapping[int, int]) -> list[int]:
        """The first of these latents, as many as the budget has room for."""
        left = self.chat.budget.left
        if left is None:
            return block
        return block[: int(np.searchsorted(np.cumsum([costs[k] for k in block]), left, side="right"))]

    # --- the answers ---

    def _explain(self, block: Sequence[int]) -> None:
        asked = {}
        for k in block:
            latent = int(self.sample.latent_K[k])
            if latent in self.explained:
                self.records[k]["explanation"] = self.explained[latent]
            elif self.materials[k].shown:
                asked[k] = explain_question(self.materials[k].shown, self.materials[k].name)
            else:
                self.records[k]["explanation_failure"] = TOO_FEW
                self._count("explanation", {TOO_FEW: 1})
        answers = self.chat.ask(list(asked.values()), read_explanation, what="explaining")
        self._look("explanation", answers)
        for k, answer in zip(asked, answers, strict=True):
            self.records[k]["explanation"] = answer.value
            self.records[k]["explanation_failure"] = answer.failure

    def _score(self, kind: str, block: Sequence[int]) -> None:
        explained = [k for k in block if self.records[k]["explanation"] is not None]
        asked = [
            (k, len(some), conversation)
            for k in explained
            for some, conversation in zip(
                _parts(self.materials[k].trials[kind], self.options.per_question),
                self._questions(kind, self.materials[k], self.records[k]["explanation"]),
                strict=True,
            )
        ]
        answers: dict[int, Answer[list[bool]]] = {}
        for n in sorted({n for _, n, _ in asked}):
            of_n = [i for i, (_, length, _) in enumerate(asked) if length == n]
            said = self.chat.ask([asked[i][2] for i in of_n], _list_of(n), what=kind)
            answers |= dict(zip(of_n, said, strict=True))
        self._look(kind, list(answers.values()))
        for k in explained:
            mine = [i for i, (of, _, _) in enumerate(asked) if of == k]
            if any(answers[i].failure in PUT_OFF for i in mine):
                continue
            predicted: list[bool | None] = []
            for i in mine:
                value = answers[i].value
                predicted += [None] * asked[i][1] if value is None else value
            scored = score_trial(self.materials[k].trials[kind], predicted)
            scored["quantiles"] = [window.quantile for window in self.materials[k].trials[kind].windows]
            scored["failures"] = tally(answers[i] for i in mine)
            self.records[k][kind] = scored
            if not mine:
                self._count(kind, {TOO_FEW: 1})

    def _look(self, what: str, answers: Sequence[Answer[Any]]) -> None:
        """Count what failed, and stop where nothing more will be answered."""
        failures = tally(answers)
        self.asked[what] += len(answers)
        self._count(what, failures)
        put_off = sorted(PUT_OFF & failures.keys())
        if put_off and self.stopped is None:
            self.stopped = put_off[0]

    def _count(self, what: str, failures: Mapping[str, int]) -> None:
        for kind, count in failures.items():
            self.failures[what][kind] = self.failures[what].get(kind, 0) + count

    def _tell(self, done: int) -> None:
        """A line now and then where no bar is seen."""
        now = time.monotonic()
        if not sys.stderr.isatty() and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            say(f"{done} of {n_of(len(self.records), 'latent')}, {n_of(self.chat.budget.spent, 'token')}")

    def log(self, k: int) -> str:
        """The windows a latent was explained from, as a person reads them."""
        shown, _, name = self.materials[k]
        return explain_question(shown, name)[0]["content"] if shown else ""


def in_turns(groups: Sequence[Sequence[Example]]) -> list[Example]:
    """The first of each group, the strongest group first, then the second of each, and so on."""
    longest = max(map(len, groups), default=0)
    return [group[i] for i in range(longest) for group in reversed(groups) if i < len(group)]


def _parts(trial: Trial, per_question: int) -> list[list[Window]]:
    return [trial.windows[i : i + per_question] for i in range(0, len(trial.windows), per_question)]


def _list_of(n: int) -> Any:
    """What reads a list of exactly n zeros and ones."""

    def read(answer: str) -> list[bool] | None:
        found = read_list(answer)
        return found if found is not None and len(found) == n else None

    return read
