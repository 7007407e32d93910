"""One dictionary steered with: the corpus read, latents chosen, texts written, scored and judged.

    study = Study(options, prompts, labelled_texts, LanguageModels(), chat=None)
    result = study.steer(subject, explanations={})
    result["records"][0]["text"], result["summary"]["while_coherent"]

A record is one text under one push, see `temporal_saes.steering.frontier`; those without a strength are what
the model writes unsteered, once for every latent, as success is about a latent.

Shapes: N labelled texts, L positions, D model width, K chosen latents, C classes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dictionary_learning.command.progress import say
from dictionary_learning.dictionaries.base import Dictionary, check_width, chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import Continuation, LanguageModel
from dictionary_learning.language_model.token_text import token_texts
from dictionary_learning.language_model.tokens import prompt_ids
from dictionary_learning.texts.encoding import read_text
from temporal_saes.chat.client import Chat
from temporal_saes.experiment.subjects import LanguageModels, Subject
from temporal_saes.features import TextActivations, read_activations
from temporal_saes.labelled.data import LabelledText
from temporal_saes.latents.tables import MIN_TOKENS, LatentTable, choose_latents, tabulate, top_tokens
from temporal_saes.probing.domain_probe import DomainProbe, train_domain_probe
from temporal_saes.sparsity import reading_l0
from temporal_saes.steering.frontier import summarise
from temporal_saes.steering.judge import Judge, Steered
from temporal_saes.steering.options import SteeringOptions
from temporal_saes.steering.pushes import Push, ShareRow, Steering, make_push, token_shares, write_texts
from temporal_saes.steering.text_scores import Reading, score_texts

DEFAULT_PROMPTS = Path(__file__).with_name("prompts.txt")
N_TOP_TOKENS = 10


def read_prompts(path: str | Path) -> list[str]:
    """The lines of a text file that are not empty, each a prompt.

    Raises:
        UserError: the file is not there, is not UTF-8, has no prompt, or one twice.
    """
    lines = read_text(path, f"--prompts {path}").splitlines()
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise UserError(f"--prompts {path} is empty: give a file with a prompt a line.")
    if len(set(prompts)) < len(prompts):
        twice = next(prompt for prompt in prompts if prompts.count(prompt) > 1)
        raise UserError(f"--prompts {path} has the line {twice!r} twice: leave one out.")
    return prompts


class Corpus(NamedTuple):
    """What was read of the labelled texts."""

    table: LatentTable
    probe: DomainProbe


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
        self._probes: dict[tuple[Any, ...], DomainProbe] = {}

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
        lm.check_layer(subject.layer)
        check_lengths(lm, self.prompts, self.options.max_new_tokens)
        with reading_l0() as l0:
            corpus = self._read_corpus(lm, dictionary, subject)
        sparsity = l0.told(subject.name)
        table = corpus.table
        chosen = self._choose(table)
        ratio = subject.max_norm_ratio
        steering = Steering(
            lm,
            subject.layer,
            dictionary,
            self.options.mode,
            np.inf if ratio is None else ratio * table.median_norm,
            self.options.positions == "generated",
        )
        latents = [
            self._describe(lm, dictionary, table, latent, explanations.get(table.first + latent))
            for latent in chosen
        ]
        records = self._records(steering, corpus, latents)
        judged = self._judge(records, latents)
        return {
            **sparsity,
            "latents": latents,
            "prompts": self.prompts,
            "corpus": {
                "n_texts": len(self.texts),
                "n_tokens": table.n_tokens,
                "median_norm": table.median_norm,
                "n_alive": int((table.count_F >= MIN_TOKENS).sum()),
                "min_tokens": MIN_TOKENS,
            },
            "probe": {
                "classes": corpus.probe.classes,
                "accuracy": corpus.probe.accuracy,
                "n_train": corpus.probe.n_train,
                "n_test": corpus.probe.n_test,
            },
            "judge": judged,
            "summary": summarise(records),
            "records": records,
        }

    # --- the corpus ---

    def _read_corpus(self, lm: LanguageModel, dictionary: Dictionary, subject: Subject) -> Corpus:
        """One pass over the texts: what the latents do, and the mean activation of each text."""
        pooled: list[np.ndarray | None] = []
        reading = subject.reading(self.options)
        activations = read_activations([text.text for text in self.texts], lm, subject.layer, reading)
        table = tabulate(
            self.texts, self._pooling(activations, pooled), dictionary, chunk_slice(dictionary, subject.chunk)
        )
        key = (subject.model, subject.layer, subject.lm_dtype, reading)
        if key not in self._probes:
            labels = [text.label for text, x_D in zip(self.texts, pooled, strict=True) if x_D is not None]
            x_ND = np.stack([x_D for x_D in pooled if x_D is not None])
            self._probes[key] = train_domain_probe(x_ND, labels, self.options.seed)
        return Corpus(table, self._probes[key])

    def _pooling(
        self, activations: Iterable[TextActivations], pooled: list[np.ndarray | None]
    ) -> Iterator[TextActivations]:
        """The activations as they come; the mean over as many tokens as will be written goes to `pooled`."""
        for one in activations:
            place_u = np.flatnonzero(one.tokens.usable_L)[: self.options.max_new_tokens]
            x_uD = one.x_LD[torch.from_numpy(place_u)]
            pooled.append(x_uD.float().mean(0).numpy() if len(place_u) else None)
            yield one

    # --- the latents ---

    def _choose(self, table: LatentTable) -> list[int]:
        """The latents to push, numbered within the chunk.

        Raises:
            UserError: one of those given is dead, or the rule finds none.
        """
        options = self.options
        if options.latents is not None:
            chosen = [latent - table.first for latent in options.latents]
            dead = [latent for latent in chosen if table.count_F[latent] == 0]
            if dead:
                raise UserError(
                    f"--latents {table.first + dead[0]} is dead: it fires at none of the {table.n_tokens:,} "
                    f"tokens that were read; leave it out, or read more (--max_texts)."
                )
            return chosen
        chosen = choose_latents(table, options.choose, options.n_latents, options.seed)
        if not chosen:
            raise UserError(
                f"no latent of the chunk fires at {MIN_TOKENS} of the {table.n_tokens:,} tokens that were "
                f"read: read more (--max_texts), or choose another --chunk."
            )
        if len(chosen) < options.n_latents:
            say(f"{len(chosen)} latents instead of {options.n_latents}: the rule finds no more.")
        return chosen

    def _describe(
        self,
        lm: LanguageModel,
        dictionary: Dictionary,
        table: LatentTable,
        latent: int,
        explanation: str | None,
    ) -> dict[str, Any]:
        """What is known of a latent, numbered within the chunk."""
        number = table.first + latent
        (ids_n,) = top_tokens(lm, dictionary.decoder_directions()[[number]], N_TOP_TOKENS)
        return {
            "latent": number,
            "maximum": float(table.maximum_F[latent]),
            "n_active": int(table.count_F[latent]),
            "target": table.target(latent),
            "selectivity": float(table.selectivity_CF()[:, latent].max()),
            "explanation": explanation,
            "top_tokens": token_texts(lm.tokenizer, ids_n.tolist()),
            "top_token_ids": ids_n.tolist(),
            "strongest": [found._asdict() for found in table.strongest(latent, self.texts)],
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
            steering.layer,
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


def check_lengths(lm: LanguageModel, prompts: Sequence[str], max_new_tokens: int) -> None:
    """Raise a UserError if the model cannot continue a prompt by so many tokens."""
    for prompt, ids in zip(prompts, prompt_ids(lm.tokenizer, list(prompts)), strict=True):
        if lm.max_positions is not None and len(ids) + max_new_tokens > lm.max_positions:
            raise UserError(
                f"the prompt {prompt[:40]!r} has {len(ids)} tokens, and {lm.name} has no room for "
                f"{max_new_tokens} more in its {lm.max_positions} positions: shorten it, or give a smaller "
                f"--max_new_tokens."
            )


def topic(latent: Mapping[str, Any]) -> str:
    """What a latent is about, in words for a judge: its explanation, or where it is strongest."""
    if latent["explanation"]:
        return str(latent["explanation"])
    places = [
        f"- {' '.join((one['before'] + '<<' + one['token'] + '>>' + one['after']).split())}"
        for one in latent["strongest"]
    ]
    return "\n".join(["What these passages have in common, above all at the words in << >>:", *places])


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
