"""What the toy corpus can be asked; the flags of `experiments/toy_features.py`."""

from dataclasses import dataclass

from dictionary_learning.activations.options import device_option
from dictionary_learning.command.options import MOST_SEED, Checked, is_seed, option

METHODS = ("tsae", "tsae_strength_0", "matryoshka", "batch_top_k", "top_k", "tfa")


@dataclass(frozen=True)
class ToyOptions(Checked):
    """The world that the toy corpus comes from, the dictionaries, and how they are scored.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    # world
    d_model: int = option(64, "width of the activations", group="world")
    subjects: int = option(
        3, "hidden Markov chains that run side by side, each with its topics", group="world"
    )
    domains: int = option(2, "slow features of each chain that are on through several topics", group="world")
    topics: int = option(3, "slow features of each domain, of which one is on at a time", group="world")
    stretch: float = option(24.0, "tokens that a topic lasts, on average", group="world")
    idle: float = option(0.3, "share of the time that a chain has no topic", group="world")
    kinds: int = option(12, "fast features that are on whenever one of their words is", group="world")
    words: int = option(5, "fast features of each kind, drawn anew at every token", group="world")
    words_a_token: float = option(3.0, "words that are on at a token, on average", group="world")
    zipf: float = option(1.0, "exponent of the frequencies of topics and words", group="world")
    local: float = option(
        0.5, "share of the words that belong to a topic and are five times as frequent in it", group="world"
    )
    jitter: float = option(0.15, "standard deviation of a feature's size, as a share of it", group="world")
    noise: float = option(0.3, "length of the noise of a token; a feature has length 1", group="world")
    mean_share: float = option(0.5, "share of the energy that all tokens have in common", group="world")

    # corpus
    texts: int = option(1000, "texts to train on", group="corpus")
    eval_texts: int = option(
        300, "texts to score on; one half chooses latents, the other scores", group="corpus"
    )
    length: int = option(64, "tokens of a text", group="corpus")

    # dictionaries
    methods: tuple[str, ...] = option(METHODS, "which dictionaries", group="dictionaries", choices=METHODS)
    dict_size: int = option(128, "latents, or atoms of a TemporalSAE", group="dictionaries")
    high_share: float = option(0.2, "share of the latents in the high-level group", group="dictionaries")
    k: int | None = option(
        None, "latents a token; as many as truths, on average, if not given", group="dictionaries"
    )
    steps: int = option(600, "optimiser steps", group="dictionaries")
    batch_tokens: int = option(512, "tokens, or pairs, of a step", group="dictionaries")
    lr: float = option(1e-2, "learning rate; of a TemporalSAE see --tfa_lr", group="dictionaries")
    tfa_lr: float = option(
        0.02, "of its attention, as a share of each parameter's size", group="dictionaries"
    )
    tfa_atom_lr: float = option(0.2, "of its atoms, likewise", group="dictionaries")
    temp_alpha: float = option(1.0, "strength of the T-SAE's temporal term", group="dictionaries")

    # result
    seeds: tuple[int, ...] = option(
        (0, 1, 2), "each has a world, a corpus and first weights of its own", group="result"
    )
    device: str | None = device_option("result")
    output_dir: str = option("runs/toy", "folder for the result and the figure", group="result")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_model", "subjects", "domains", "topics", "kinds", "words", "batch_tokens", "steps"):
            self._require(getattr(self, name) > 0, name, "must be at least 1")
        self._require(self.texts > 0, "texts", "must be at least 1")
        self._require(self.eval_texts >= 2, "eval_texts", "must be at least 2: one half chooses, one scores")
        self._require(self.length >= 3, "length", "must be at least 3")
        self._require(self.stretch >= 1, "stretch", "must be at least 1 token")
        self._require(self.zipf >= 0, "zipf", "must not be negative")
        for name in ("idle", "mean_share"):
            self._require(0 <= getattr(self, name) < 1, name, "must be at least 0 and below 1")
        self._require(0 <= self.local <= 1, "local", "must lie from 0 to 1")
        for name in ("jitter", "noise", "temp_alpha"):
            self._require(getattr(self, name) >= 0, name, "must not be negative")
        n_words = self.kinds * self.words
        self._require(
            0 < self.words_a_token < n_words, "words_a_token", f"must lie between 0 and the {n_words} words"
        )
        self._require(0 < self.high_share < 1, "high_share", "must lie between 0 and 1")
        self._require(
            1 <= round(self.high_share * self.dict_size) < self.dict_size,
            "dict_size",
            "leaves one of the groups without a latent",
        )
        self._require(self.k is None or 0 < self.k <= self.dict_size, "k", "must lie from 1 to --dict_size")
        self._require(
            self.dict_size % 2 == 0, "dict_size", "must be even, for the attention of a TemporalSAE"
        )
        for name in ("lr", "tfa_lr", "tfa_atom_lr"):
            self._require(getattr(self, name) > 0, name, "must be positive")
        self._require(self.batch_tokens >= self.length, "batch_tokens", "must be a text at least (--length)")
        self._require(
            self.batch_tokens <= self.texts * (self.length - 1), "batch_tokens", "is more than all texts have"
        )
        for name in ("methods", "seeds"):
            values = getattr(self, name)
            self._require(
                len(values) > 0 and len(set(values)) == len(values), name, "must differ from each other"
            )
        self._require(all(map(is_seed, self.seeds)), "seeds", f"must lie from 0 to {MOST_SEED}")
        self._require(self.output_dir != "", "output_dir", "must be a folder, such as runs/toy")

    @property
    def n_slow(self) -> int:
        """Slow features of the world."""
        return self.subjects * self.domains * (1 + self.topics)

    @property
    def n_fast(self) -> int:
        """Fast features of the world."""
        return self.kinds * (1 + self.words)
