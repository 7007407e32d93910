"""How texts are read: what decides the activations of a text besides the language model and its layer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """How the language model reads texts, and which of their positions count.

    The first three are those of the dictionary's training, so that it sees what it has learnt from; the
    others change no number.
    """

    context_length: int
    """Tokens of a text that are read, special ones included; a longer text is cut off there."""
    max_norm_ratio: float | None = 10.0
    """A position whose norm is more than so many times the median is not usable; None keeps all."""
    add_bos: bool = True
    """Read the BOS that the tokenizer puts in front of a text."""
    lm_batch_size: int = 16
    """Texts that the language model reads at a time; they are sorted by length."""
    cache: bool = True
    """Keep the activations on disk, and use those that are there."""
