"""What the model continues: a file of openings, one a line."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dictionary_learning.errors import UserError
from dictionary_learning.texts.encoding import read_text

if TYPE_CHECKING:
    from dictionary_learning.language_model import LanguageModel

DEFAULT_PROMPTS = Path(__file__).with_name("prompts.txt")


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


def check_lengths(lm: "LanguageModel", prompts: Sequence[str], max_new_tokens: int) -> None:
    """Raise a UserError if the model cannot continue a prompt by so many tokens."""
    from dictionary_learning.language_model.tokens import prompt_ids

    for prompt, ids in zip(prompts, prompt_ids(lm.tokenizer, list(prompts)), strict=True):
        if lm.max_positions is not None and len(ids) + max_new_tokens > lm.max_positions:
            raise UserError(
                f"the prompt {prompt[:40]!r} has {len(ids)} tokens, and {lm.name} has no room for "
                f"{max_new_tokens} more in its {lm.max_positions} positions: shorten it, or give a smaller "
                f"--max_new_tokens."
            )
