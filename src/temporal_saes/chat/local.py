"""A local transformers model with a chat template as a chat model.

chat = LocalChat(LanguageModel.load("demo"), max_tokens=64)
chat.ask([question("Is 7 a prime? Answer yes or no.")], read=yes_or_no)
"""

import math
import time
from collections.abc import Sequence

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.tokens import prompt_ids
from temporal_saes.chat.model import OUT_OF_TIME, OVER_BUDGET, TOO_LONG, Chat, Completion, Conversation, Done
from temporal_saes.chat.token_budget import TokenBudget, Usage

LOCAL_BATCH = 16  # conversations that the model continues at a time


class LocalChat(Chat):
    """A transformers model with a chat template, on this machine.

    Args:
        lm: the model.
        max_tokens: of an answer.
        budget: counts the tokens, and may forbid an answer; one that only counts if not given.
        time_limit: seconds from now on, after which no batch is begun; None for none.

    Raises:
        UserError: its tokenizer has no chat template.
    """

    def __init__(
        self,
        lm: LanguageModel,
        max_tokens: int = 64,
        *,
        budget: TokenBudget | None = None,
        time_limit: float | None = None,
    ) -> None:
        if not lm.tokenizer.chat_template:
            raise UserError(f"{lm.name} has no chat template, so nothing can be asked of it: choose another.")
        self.lm, self.name, self.max_tokens = lm, lm.name, max_tokens
        self.budget = budget or TokenBudget()
        self._deadline = math.inf if time_limit is None else time.monotonic() + time_limit

    def check(self) -> None:
        """Nothing: it is loaded."""

    def complete(
        self, conversations: Sequence[Conversation], done: Done = lambda place, completion: None
    ) -> list[Completion]:
        """What the model says to each, by greedy search."""
        prompts = [self._prompt(conversation) for conversation in conversations]
        lengths = [len(ids) for ids in prompt_ids(self.lm.tokenizer, prompts)]
        room = (self.lm.max_positions or max(lengths, default=0) + self.max_tokens) - self.max_tokens
        completions = [Completion(None, TOO_LONG)] * len(prompts)
        fitting = sorted((i for i, length in enumerate(lengths) if length <= room), key=lambda i: lengths[i])
        for i in set(range(len(prompts))) - set(fitting):
            done(i, completions[i])
        for first in range(0, len(fitting), LOCAL_BATCH):
            batch = fitting[first : first + LOCAL_BATCH]
            for i, completion in zip(batch, self._continue(batch, prompts, lengths), strict=True):
                completions[i] = completion
                done(i, completion)
        return completions

    def _continue(
        self, batch: Sequence[int], prompts: Sequence[str], lengths: Sequence[int]
    ) -> list[Completion]:
        """What the model writes after the prompts of these numbers."""
        if time.monotonic() >= self._deadline:
            return [Completion(None, OUT_OF_TIME)] * len(batch)
        reserved = sum(lengths[i] + self.max_tokens for i in batch)
        if not self.budget.reserve(reserved):
            return [Completion(None, OVER_BUDGET)] * len(batch)
        self.budget.settle(reserved, None)  # nothing else runs, so it is there still when it is counted
        written = self.lm.continuations([prompts[i] for i in batch], max_new_tokens=self.max_tokens)
        completions = []
        for one in written:
            usage = Usage(len(one.prompt_ids), len(one.ids))
            self.budget.count(usage)
            completions.append(Completion(one.text, None, usage))
        return completions

    def _prompt(self, conversation: Conversation) -> str:
        made = self.lm.tokenizer.apply_chat_template(
            [dict(message) for message in conversation], tokenize=False, add_generation_prompt=True
        )
        # the tokenizer puts its BOS in front again
        return made.removeprefix(self.lm.tokenizer.bos_token or "") if self.lm.bos_id is not None else made
