"""One dictionary steered with: the corpus read, latents chosen, texts written, scored and judged.

    study = Study(options, prompts, labelled_texts, LanguageModels(), chat=None)
    result = study.steer(subject, explanations={})
    result["records"][0]["text"], result["summary"]["while_coherent"]

A record is one text under one push, see `temporal_saes.steering.frontier`; those without a strength are what
the model writes unsteered, once for every latent, as success is about a latent.

Shapes: D model width, K chosen latents, M texts with a token, C classes, n tokens of a latent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dictionary_learning.dictionaries.base import Dictionary, check_width
from dictionary_learning.language_model import Continuation
from temporal_saes.chat.model import Chat
from temporal_saes.experiment.subjects import LanguageModels, Subject
from temporal_saes.labelled.data import LabelledText
from temporal_saes.probing.domain_probe import DomainProbe
from temporal_saes.sparsity import reading_l0
from temporal_saes.steering.chosen_latents import choose, describe, topic
from temporal_saes.steering.corpus import Corpus, CorpusReader
from temporal_saes.steering.frontier import summarise
from temporal_saes.steering.judge import Judge, Steered
from temporal_saes.steering.options import SteeringOptions
from temporal_saes.steering.prompts import check_lengths
from temporal_saes.steering.pushes import Push, ShareRow, Steering, make_push, token_shares, write_texts
from temporal_saes.steering.text_scores import Reading, score_texts


class Study:
    """Steers with one dictionary after another.

    Args:
        prompts: what the model continues.
        texts: on which latents are measured and the domain probe is trained.
        chat: the judge; None scores by numbers alone.
    """

    def __init__(
        self,
        options: SteeringOptions,
        prompts: Sequence[str],
        texts: Sequence[LabelledText],
        models: LanguageModels,
        chat: Chat | None = None,
    ) -> None:
        self.options, self.prompts, self.texts = options, list(prompts), list(texts)
        self.models, self.chat = models, chat
        self._corpus = CorpusReader(options, texts)

    def steer(self, subject: Subject, explanations: Mapping[int, str]) -> dict[str, Any]:
        """The result for one dictionary, as it goes into its JSON.

        Raises:
            UserError: the dictionary or a prompt does not fit the language model, or a latent is dead; before
                anything is written.
        """
        lm = self.models.get(subject)
        dictionary = subject.load_dictionary(lm.device)
        assert dictionary is not None
        check_width(dictionary, lm)
        lm.check_place(subject.place)
        check_lengths(lm, self.prompts, self.options.max_new_tokens)
        with reading_l0() as l0:
            corpus = self._corpus.read(lm, dictionary, subject)
        sparsity = l0.told(subject.name)
        table = corpus.table
        chosen = choose(table, self.options)
        ratio = subject.max_norm_ratio
        steering = Steering(
            lm,
            subject.place,
            dictionary,
            self.options.mode,
            np.inf if ratio is None else ratio * table.median_norm,
            self.options.positions == "generated",
        )
        latents = [
            describe(lm, dictionary, table, latent, explanations.get(table.first + latent), self.texts)
            for latent in chosen
        ]
        records = self._records(steering, corpus, latents)
        judged = self._judge(records, latents)
        return {
            **sparsity,
            "latents": latents,
            "prompts": self.prompts,
            **corpus.told(),
            "judge": judged,
            "summary": summarise(records),
            "records": records,
        }

    # --- the texts ---

    def _pushes(self, dictionary: Dictionary, latents: Sequence[Mapping[str, Any]]) -> list[Push]:
        seeds = [None, self.options.seed] if self.options.control else [None]
        return [
            make_push(
                dictionary,
                one["latent"],
                strength,
                one["maximum"] if self.options.unit == "max" else None,
                seed,
            )
            for one in latents
            for seed in seeds
            for strength in self.options.amounts
        ]

    def _records(
        self, steering: Steering, corpus: Corpus, latents: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Every text with its numbers."""
        options, prompts = self.options, self.prompts
        pushes = self._pushes(steering.dictionary, latents)
        rows: list[tuple[str, Push | None]] = [(prompt, None) for prompt in prompts]
        rows += [(prompt, push) for push in pushes for prompt in prompts]
        written = write_texts(
            steering,
            rows,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            batch_size=options.generation_batch_size,
            seed=options.seed,
        )
        readings = score_texts(
            steering.lm,
            steering.place,
            steering.dictionary,
            [one["latent"] for one in latents],
            written,
            norm_limit=steering.norm_limit,
            batch_size=options.lm_batch_size,
        )
        shares = self._shares(steering, rows, written[: len(prompts)], latents)
        classes = _class_probabilities(corpus.probe, readings)
        place = {one["latent"]: k for k, one in enumerate(latents)}
        records = []
        for i, (_, push) in enumerate(rows):
            # what is written without a push is compared with by every latent
            for one in latents if push is None else [latents[place[push.latent]]]:
                k = place[one["latent"]]
                reading, share_K = readings[i], shares[i]
                activation_K, target = reading.latents_K, one["target"]
                records.append(
                    {
                        "latent": one["latent"],
                        "strength": None if push is None else push.strength,
                        "control": push is not None and push.is_control,
                        "length": None if push is None or options.mode != "add" else push.length,
                        "prompt": i % len(prompts),
                        "text": written[i].text,
                        "n_tokens": reading.n_tokens,
                        "nll": reading.nll,
                        "repetition": reading.repetition,
                        "domain_probability": classes[i].get(target),
                        "activation": None
                        if activation_K is None
                        else float(activation_K[k]) / one["maximum"],
                        "own_tokens": None if share_K is None else float(share_K[k if push is None else 0]),
                        "success": None,
                        "coherence": None,
                    }
                )
        return records

    def _shares(
        self,
        steering: Steering,
        rows: Sequence[tuple[str, Push | None]],
        unsteered: Sequence[Continuation],
        latents: Sequence[Mapping[str, Any]],
    ) -> list[np.ndarray | None]:
        """How likely each row's push makes its own tokens, where the text is what is written without one."""
        ids_Kn = torch.tensor([one["top_token_ids"] for one in latents])
        place = {one["latent"]: k for k, one in enumerate(latents)}
        asked_for = []
        for i, (_, push) in enumerate(rows):
            own = ids_Kn if push is None else ids_Kn[[place[push.latent]]]
            asked_for.append(ShareRow(unsteered[i % len(self.prompts)], push, own))
        return token_shares(steering, asked_for, self.options.lm_batch_size)

    # --- the judge ---

    def _judge(
        self, records: Sequence[dict[str, Any]], latents: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any] | None:
        """Put the judge's scores into the records; who judged, and what failed."""
        if self.chat is None:
            return None
        judge = Judge(self.chat)
        topics = {one["latent"]: topic(one) for one in latents}
        texts = [
            Steered(topics[record["latent"]], self.prompts[record["prompt"]], record["text"])
            for record in records
        ]
        for name, answers in (("success", judge.success(texts)), ("coherence", judge.coherence(texts))):
            for record, answer in zip(records, answers, strict=True):
                record[name] = answer.value
        return judge.about()


def _class_probabilities(probe: DomainProbe, readings: Sequence[Reading]) -> list[dict[str, float]]:
    """The probability of each class for every text; nothing for one without a token."""
    pooled = {i: reading.pooled_D for i, reading in enumerate(readings) if reading.pooled_D is not None}
    if not pooled:
        return [{} for _ in readings]
    p_MC = probe(np.stack(list(pooled.values())))
    found = {
        i: dict(zip(probe.classes, p_C.tolist(), strict=True)) for i, p_C in zip(pooled, p_MC, strict=True)
    }
    return [found.get(i, {}) for i in range(len(readings))]
