"""A chat model that never has to be asked the same thing twice: its answers stand in a file.

    chat = RecordedChat(ChatServer(url, model), folder / "answers.jsonl")
    chat.ask(conversations, read)

An answer is written as soon as it is there, a line each, so that a run that is killed goes on where it was.
Answers and refusals are kept, which were paid for; what failed otherwise is asked again the next time. The
file holds what was said and what it cost, not what was asked (a hash of it), and no key.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from dictionary_learning.command.files import naming, offer
from dictionary_learning.errors import UserError
from temporal_saes.chat.model import REFUSAL, Chat, Completion, Conversation, Done
from temporal_saes.chat.token_budget import Usage


class RecordedChat(Chat):
    """The chat model, as far as the file does not answer.

    What the file's answers cost is counted in the chat's budget, so that a limit holds for all runs together.

    Args:
        path: the file, which need not exist; its folder is made.

    Raises:
        UserError: it holds something else.
    """

    def __init__(self, chat: Chat, path: Path) -> None:
        self.chat, self.path = chat, path
        self.name, self.max_tokens, self.budget = chat.name, chat.max_tokens, chat.budget
        self._known = read_journal(path)
        self.n_found = len(self._known)
        """Answers that were in the file."""
        for completion in self._known.values():
            if completion.usage is not None:
                self.budget.count(completion.usage)

    def check(self) -> None:
        """See that there will be answers.

        Raises:
            UserError: there will not be.
        """
        self.chat.check()

    def is_answered(self, conversation: Conversation) -> bool:
        """Whether the answer is there already."""
        return self._key(conversation) in self._known

    def complete(
        self, conversations: Sequence[Conversation], done: Done = lambda place, completion: None
    ) -> list[Completion]:
        """What the model says to each, from the file where it is there."""
        keys = [self._key(conversation) for conversation in conversations]
        completions: dict[int, Completion] = {}
        for i, key in enumerate(keys):
            if key in self._known:
                completions[i] = self._known[key]
                done(i, completions[i])
        missing = [i for i in range(len(conversations)) if i not in completions]
        if missing:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with naming(self.path), open(self.path, "a", encoding="utf-8") as file:

                def keep(place: int, completion: Completion) -> None:
                    i = missing[place]
                    completions[i] = completion
                    if completion.text is not None or completion.failure == REFUSAL:
                        self._known[keys[i]] = completion
                        file.write(_line(keys[i], completion))
                        file.flush()
                    done(i, completion)

                self.chat.complete([conversations[i] for i in missing], keep)
            offer(self.path)
        return [completions[i] for i in range(len(conversations))]

    def _key(self, conversation: Conversation) -> str:
        asked = [self.name, self.max_tokens, [dict(message) for message in conversation]]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


def _line(key: str, completion: Completion) -> str:
    usage = None if completion.usage is None else list(completion.usage)
    line = {"asked": key, "text": completion.text, "failure": completion.failure, "usage": usage}
    return json.dumps(line) + "\n"


def read_journal(path: Path) -> dict[str, Completion]:
    """The answers of a file by what was asked; none if it is not there. A line cut short is left out.

    Raises:
        UserError: it holds other lines than answers.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    whole, _, rest = content.rpartition(b"\n")
    if rest:  # a killed run left it: the next line must not be joined to it
        path.write_bytes(whole + b"\n" if whole else b"")
    answers = {}
    for line in whole.splitlines():
        try:
            entry = json.loads(line)
            usage = None if entry["usage"] is None else Usage(*entry["usage"])
            answers[entry["asked"]] = Completion(entry["text"], entry["failure"], usage)
        except (ValueError, TypeError, KeyError):
            raise UserError(
                f"{path} holds a line that is no answer of a chat model: remove the file, or choose another "
                f"--output_dir."
            ) from None
    return answers
