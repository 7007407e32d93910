"""Preference pairs: a conversation with a preferred answer and one that was rejected.

    from temporal_saes.alignment.pairs import load_pairs
    data = load_pairs("hh-rlhf", max_pairs=1000)
    data.pairs[0].prompt, data.pairs[0].chosen, data.pairs[0].rejected

A record holds both as texts that begin alike, as in HH-RLHF; or a prompt and two answers; or lists of
messages with `role` and `content`. All become what HH-RLHF looks like: turns that begin with
"\\n\\nHuman:" and "\\n\\nAssistant:". The answer is what follows the last "Assistant:" that both share.

With a chat template messages become what it writes, and the answer is the first that they do not share.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from dictionary_learning.command.progress import n_of
from dictionary_learning.errors import UserError
from dictionary_learning.remote.file_system import told
from dictionary_learning.remote.path import path_of
from dictionary_learning.texts.chat import CHANGED, NO_MESSAGES, ChatTemplate, are_messages
from dictionary_learning.texts.data_sets import PREFERENCES
from dictionary_learning.texts.documents import document_id
from dictionary_learning.texts.folder import check_undivided, local_records
from dictionary_learning.texts.hub_stream import hub_records
from dictionary_learning.texts.records import Record, is_local, is_unicode, read_records
from dictionary_learning.texts.spans import Spans

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
MIN_PAIRS = 10  # fewer say nothing about a mean
_SPEAKERS = {"user": "Human", "human": "Human", "assistant": "Assistant", "system": "System"}


class PreferencePair(NamedTuple):
    """Two answers to the same thing."""

    prompt: str  # all that comes before the answer; empty where the texts share no beginning
    chosen: str  # the answer alone, with the white space in front of it
    rejected: str
    id: int  # of the three texts, or of the messages, see `dictionary_learning.texts.documents.document_id`
    turns: Spans | None = (
        None  # characters of the prompt that somebody said, of a chat; None where all is text
    )


class PreferenceData(NamedTuple):
    """Pairs in the order of the data set, and what was passed over on the way."""

    pairs: list[PreferencePair]
    n_read: int
    skipped: dict[str, int]  # why, and how often


DEMO_PAIRS = Path(__file__).with_name("preference_pairs.jsonl")


def load_pairs(
    dataset: str,
    *,
    data_path: str | Path | None = None,
    subset: str | None = None,
    split: str | None = None,
    chosen_field: str = "chosen",
    rejected_field: str = "rejected",
    prompt_field: str = "prompt",
    max_pairs: int | None = None,
    max_records: int | None = None,
    chat: ChatTemplate | None = None,
) -> PreferenceData:
    """The first pairs of a data set that can be used.

    Skipped, and counted, is a pair whose two answers are equal, one without an answer, one that is there
    already, and a record whose fields are neither text nor messages.

    Args:
        dataset: one of `data_sets.PREFERENCES`, a local file, or any data set on the hub.
        data_path: a local copy of the data set, a file or a folder, instead of the hub.
        subset: folder of HH-RLHF, or configuration of another data set on the hub.
        split: of a data set on the hub; train if not given.
        prompt_field: the field with what both answer; where a record lacks it, it is what they share.
        max_pairs: as many pairs at most.
        max_records: read as many records at most.
        chat: both fields are lists of messages, or answers to a prompt, which it renders.

    Raises:
        UserError: the data set or one of the two fields is not there, or fewer than `MIN_PAIRS` pairs can
            be used.
    """
    name = f"{dataset} ({told(str(data_path))})" if data_path is not None else told(dataset)
    records = islice(_open(dataset, data_path, subset, split), max_records)
    head = list(islice(records, 1))
    for field, flag in ((chosen_field, "--chosen_field"), (rejected_field, "--rejected_field")):
        if head and field not in head[0]:
            raise UserError(
                f"{name} has no field {field!r}: preference pairs need two, choose this one among its "
                f"fields with {flag} ({', '.join(map(str, head[0]))})."
            )
    pairs: dict[int, PreferencePair] = {}
    skipped: Counter[str] = Counter()
    n_read = 0
    for record in chain(head, records):
        if max_pairs is not None and len(pairs) == max_pairs:
            break
        n_read += 1
        fields = record.get(chosen_field), record.get(rejected_field), record.get(prompt_field)
        pair = _pair(*fields) if chat is None else _chat_pair(*fields, chat)
        if isinstance(pair, str):
            skipped[pair] += 1
        elif pair.id in pairs:
            skipped["there already"] += 1
        else:
            pairs[pair.id] = pair
    if len(pairs) < MIN_PAIRS:
        reasons = "".join(f", {n:,} {reason}" for reason, n in skipped.items())
        raise UserError(
            f"{name} gives {n_of(len(pairs), 'pair')} that can be used ({n_of(n_read, 'record')}{reasons}), "
            f"and a test needs at least {MIN_PAIRS}: give more (a larger file, --max_pairs, --max_records)."
        )
    return PreferenceData(list(pairs.values()), n_read, dict(skipped))


def _open(
    dataset: str, data_path: str | Path | None, subset: str | None, split: str | None
) -> Iterator[Record]:
    path = path_of(data_path if data_path is not None else dataset)
    if data_path is not None and not path.exists():
        raise UserError(f"there is no file or folder {path}: check --data_path.")
    if dataset == "demo" and data_path is None:
        check_undivided(dataset, split, subset)
        return read_records(DEMO_PAIRS)
    entry = PREFERENCES.get(dataset)
    if entry is None and not path.is_dir() and not is_local(dataset):
        return hub_records(str(path), subset=subset, split=split or "train")
    if entry is None or entry.hub_id is None or path.is_file():
        return local_records(path, split=split, subset=subset)
    folder = subset or entry.folder
    usual = entry.split or "train"
    if data_path is None:
        return hub_records(entry.hub_id, data_dir=folder, split=split or usual)
    # a copy of the whole repository, or of the one folder
    inside = path / folder if folder and (path / folder).is_dir() else path
    return local_records(inside, split=split, usual_split=usual)


# --- records to pairs ---


def _pair(chosen: object, rejected: object, prompt: object) -> PreferencePair | str:
    """The pair of a record, or why there is none."""
    first, second, before = _as_text(chosen), _as_text(rejected), _as_text(prompt)
    if first is None or second is None or not is_unicode(first + second + (before or "")):
        return "neither text nor messages"
    shared, first, second = split_conversation(first, second, before)
    if first.strip() == second.strip():
        return "with two equal answers"
    if not first.strip() or not second.strip():
        return "without an answer"
    return PreferencePair(shared, first, second, document_id(f"{shared}\0{first}\0{second}"))


def _chat_pair(chosen: object, rejected: object, prompt: object, chat: ChatTemplate) -> PreferencePair | str:
    """The pair of a record of conversations, or why there is none."""
    asked = _messages(prompt, "user") or []
    sides = [_messages(value, "assistant" if asked else None) for value in (chosen, rejected)]
    if sides[0] is None or sides[1] is None:
        return NO_MESSAGES
    first, second = ([*([] if side[: len(asked)] == asked else asked), *side] for side in sides if side)
    shorter = min(len(first), len(second))
    n_shared = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    if n_shared == shorter:
        return "with two equal answers" if len(first) == len(second) else "without an answer"
    roles = [side[n_shared]["role"] for side in (first, second)]
    if roles[0] != roles[1] or _SPEAKERS.get(roles[0], "Assistant") != "Assistant":
        return "whose conversations part before the answers"
    good, bad = (chat.render_answer(side[: n_shared + 1]) for side in (first, second))
    if isinstance(good, str):
        return good
    if isinstance(bad, str):
        return bad
    if good.prompt != bad.prompt:
        return CHANGED
    if not is_unicode(good.prompt + good.answer + bad.answer):
        return "not valid Unicode"
    if good.answer.strip() == bad.answer.strip():
        return "with two equal answers"
    key = json.dumps([first[: n_shared + 1], second[: n_shared + 1]], sort_keys=True)
    return PreferencePair(good.prompt, good.answer, bad.answer, document_id(key), good.spans)


def _messages(value: object, role: str | None) -> list[dict[str, str]] | None:
    """The messages in a field, with their roles and texts alone; a text is one of the `role`, if given."""
    if isinstance(value, str) and value.strip() and role is not None:
        return [{"role": role, "content": value}]
    if not isinstance(value, list) or not are_messages(value):
        return None
    return [{"role": one["role"], "content": one["content"]} for one in value]


def split_conversation(chosen: str, rejected: str, prompt: str | None = None) -> tuple[str, str, str]:
    """What both texts begin with, and the two answers.

    The shared part ends behind the last "Assistant:" in what both begin with. In texts without turns it is
    the prompt, if both begin with it; a prompt that they do not begin with goes in front as the human's
    turn; and without one the shared part is the lines that both begin with. An answer ends where the human
    speaks again.
    """
    n_alike = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
        min(len(chosen), len(rejected)),
    )
    alike = chosen[:n_alike]
    turn = alike.rfind(ASSISTANT)
    if turn > 0:
        start = turn + len(ASSISTANT)
    elif prompt and alike.startswith(prompt):
        start = len(prompt)
    elif prompt:
        answers = (text.removeprefix(ASSISTANT).lstrip() for text in (chosen, rejected))
        first, second = (_answer(f" {answer}") for answer in answers)
        return _asked(prompt), first, second
    else:
        start = alike.rfind("\n") + 1
    return chosen[:start], _answer(chosen[start:]), _answer(rejected[start:])


def _asked(prompt: str) -> str:
    """A prompt as turns that end with "Assistant:"."""
    prompt = prompt.rstrip()
    if prompt.endswith(ASSISTANT):
        return prompt
    return f"{prompt if HUMAN in prompt else f'{HUMAN} {prompt.lstrip()}'}{ASSISTANT}"


def _answer(text: str) -> str:
    return text.split(HUMAN, 1)[0].rstrip()


def _as_text(value: object) -> str | None:
    """A text as it is, messages as turns; None for anything else."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or not value:
        return None
    turns = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            return None
        speaker = _SPEAKERS.get(str(message.get("role")).lower())
        if speaker is None:
            return None
        turns.append(f"\n\n{speaker}: {message['content']}")
    return "".join(turns)
