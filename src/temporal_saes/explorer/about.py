"""What is known of latents: split, explanation, what the run's feature browser says, which tokens they raise.

latents = Latents(lm, dictionary, explanations, SiteFacts.of(folder, dictionary.dict_size))
latents.tell([3, 40])
latents.find("planets")
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from dictionary_learning.command.files import read_json
from dictionary_learning.command.progress import say
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.token_text import token_texts
from temporal_saes.browser.folder import RECORD
from temporal_saes.experiment.subjects import Subject
from temporal_saes.latents.tables import top_tokens

EXPERIMENT = "dashboard"
N_FOUND = 30
N_RAISED = 8
_CALL = re.compile(r'receive\("[\w-]+",(.*)\)\s*', re.DOTALL)


class SiteFacts(NamedTuple):
    """What the folder of a feature browser says of its latents."""

    folder: Path
    by_latent: dict[int, dict[str, Any]]

    @classmethod
    def of(cls, folder: Path, dict_size: int) -> Self:
        """Read a folder that `browse` wrote.

        Raises:
            UserError: it holds something else, or latents that the dictionary has not.
        """
        if not (folder / RECORD).is_file():
            raise UserError(f"--browser {folder} holds no feature browser: give a folder that browse wrote.")
        try:
            index, vocabulary = (_data(folder, name) for name in ("index", "vocabulary"))
            # a browser of an earlier version has no words
            index.setdefault("words", [[]] * len(index["latents"]))
            columns = (
                index[name] for name in ("latents", "explanation", "maximum", "density", "tokens", "words")
            )
            facts = {
                int(latent): {
                    "explanation": str(said),
                    "maximum": maximum,
                    "density": density,
                    "tokens": [str(vocabulary[place]) for place in places],
                    "words": [str(word) for word in words],
                }
                for latent, said, maximum, density, places, words in zip(*columns, strict=True)
            }
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(f"--browser {folder} is damaged ({error}): write it anew with browse.") from None
        if max(facts, default=0) >= dict_size:
            raise UserError(
                f"--browser {folder} shows latent {max(facts)}, and the dictionary has 0 to {dict_size - 1}: "
                "give the browser of this run."
            )
        return cls(folder, facts)


def find_site(given: str | None, subject: Subject, dict_size: int) -> SiteFacts | None:
    """The feature browser that was given, or the newest one of the run that is not older than its weights.

    Raises:
        UserError: what was given is none.
    """
    if given is not None:
        return SiteFacts.of(Path(given).resolve(), dict_size)
    assert subject.trainer_folder is not None
    made = sorted(
        (subject.folder / EXPERIMENT).glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    weights = max((path.stat().st_mtime for path in subject.trainer_folder.glob("*.pt")), default=0.0)
    for record in made:
        if _is_of(record, subject) and record.stat().st_mtime >= weights:
            try:
                return SiteFacts.of(record.parent, dict_size)
            except UserError as error:
                say(f"no links into {record.parent}: {error}")
    return None


def _is_of(record: Path, subject: Subject) -> bool:
    """Whether a browser shows the same dictionary of the run."""
    assert subject.trainer_folder is not None
    try:
        options = read_json(record)["options"]
        own, folder = f"trainer_{options['trainer']}", subject.trainer_folder.name
        return options["checkpoint"] == subject.checkpoint and (
            own == folder or not folder.startswith("trainer_")
        )
    except (UserError, KeyError, TypeError):
        return False


def _data(folder: Path, name: str) -> Any:
    call = _CALL.fullmatch((folder / "data" / f"{name}.js").read_text("ascii"))
    if call is None:
        raise ValueError(f"data/{name}.js is not whole")
    return json.loads(call[1])


class Latents:
    """What is known of each latent of a dictionary.

    Args:
        explanations: by latent; they stand over those of the feature browser.
    """

    def __init__(
        self,
        lm: LanguageModel,
        dictionary: Dictionary,
        explanations: Mapping[int, str],
        site: SiteFacts | None,
    ) -> None:
        self.lm, self.dictionary, self.site = lm, dictionary, site
        self._facts = {} if site is None else site.by_latent
        written = {latent: one["explanation"] for latent, one in self._facts.items() if one["explanation"]}
        self._explanations = written | dict(explanations)
        self._splits = {name: range(one.start, one.stop) for name, one in dictionary.splits().items()}

    def tell(self, latents: Iterable[int], *, raised: bool = False) -> list[dict[str, Any]]:
        """What there is to say of some latents.

        Args:
            raised: also the tokens whose logits the latent raises most.

        Raises:
            UserError: there is no such latent.
        """
        return [self._tell(latent, raised) for latent in latents]

    def find(self, words: str) -> list[int]:
        """The latents of that number, or whose explanation, words or tokens have all the words."""
        parts = words.lower().split()
        found = [int(words)] if words.strip().isdecimal() and self._is_there(int(words)) else []
        if parts:
            known = sorted(self._explanations.keys() | self._facts.keys())
            found += [latent for latent in known if all(part in self._said(latent) for part in parts)]
        return list(dict.fromkeys(found))[:N_FOUND]

    def _is_there(self, latent: int) -> bool:
        return 0 <= latent < self.dictionary.dict_size

    def _said(self, latent: int) -> str:
        facts = self._facts.get(latent, {})
        words = [*facts.get("words", []), *facts.get("tokens", [])]
        return f"{self._explanations.get(latent, '')} {' '.join(words)}".lower()

    def _tell(self, latent: int, raised: bool) -> dict[str, Any]:
        if not self._is_there(latent):
            raise UserError(
                f"there is no latent {latent}: the dictionary has 0 to {self.dictionary.dict_size - 1}."
            )
        facts = self._facts.get(latent, {})
        told = {
            "latent": latent,
            "split": next((name for name, inside in self._splits.items() if latent in inside), ""),
            "explanation": self._explanations.get(latent, ""),
            "maximum": facts.get("maximum"),
            "density": facts.get("density"),
            "words": facts.get("words", []),
            "tokens": facts.get("tokens", []),
            "has_page": latent in self._facts,
        }
        if raised:
            (ids,) = top_tokens(self.lm, self.dictionary.decoder_directions()[[latent]], N_RAISED)
            told["raised"] = token_texts(self.lm.tokenizer, ids.tolist())
        return told
