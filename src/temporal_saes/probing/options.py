"""What probing can be asked; the flags of `experiments/probing.py`."""

from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import ChatOptions, SeedOptions

TASKS = ("semantics", "syntax", "context")
DIRECTIONS = ("auto", "higher", "either")
POOLS = ("token", "last", "sentence", "turn", "document")


@dataclass(frozen=True)
class ProbingOptions(SeedOptions, ChatOptions):
    """What probing can be asked."""

    tasks: tuple[str, ...] = option(TASKS, "which probes", group="probes", choices=TASKS)
    k: tuple[str, ...] = option(
        ("1", "5", "10", "20", "all"), "latents chosen for each class, or all", group="probes"
    )
    direction: str = option(
        "auto",
        "latents chosen for a class are higher in it, or higher or lower (either); auto: either for the "
        "activations themselves, of which more is not more of something",
        group="probes",
        choices=DIRECTIONS,
    )
    scale_choice: bool = option(
        False,
        "choose by differences in standard deviations of a latent, as the probe sees it, and not in its own "
        "units",
        group="probes",
    )
    pool: str = option(
        "token",
        "what stands for a text in semantics: one token of its second half; a number: the mean over so many "
        "tokens, up to and with that one; sentence, turn: over the one in which that is; document: over all "
        "of the text; last: its last token",
        group="probes",
    )
    n_train: int = option(3000, "training examples; fewer where the data do not have them", group="probes")
    n_test: int = option(1000, "test examples; fewer where the data do not have them", group="probes")
    context_texts: int = option(160, "texts of the context task", group="probes")
    context_tokens: int = option(25, "tokens of each text of the context task", group="probes")
    repeats: int = option(5, "random splits, for the mean and the 95 % interval", group="probes")

    def __post_init__(self) -> None:
        super().__post_init__()
        for k in self.k:
            if k != "all" and not (k.isdigit() and int(k) >= 1):
                raise UserError(f"--k {k} is not a number of latents: give numbers from 1 on, or all.")
        self.check_least(1, "n_train", "n_test", "repeats")
        self.check_least(2, "context_texts", "context_tokens")
        self._check_pool()

    def _check_pool(self) -> None:
        if self.pool == "1":
            object.__setattr__(self, "pool", "token")
        if self.pool not in POOLS and not (self.pool.isdecimal() and int(self.pool) >= 1):
            raise UserError(
                f"--pool {self.pool} is nothing to average over: give {', '.join(POOLS)}, or a number of "
                "tokens from 1 on."
            )
        if self.pool == "turn" and not self.chat_template:
            raise UserError(
                "--pool turn needs the turns of conversations: add --chat_template, or give --pool document."
            )

    @property
    def is_pooled(self) -> bool:
        """Whether features are averaged over several tokens."""
        return self.pool not in ("token", "last")

    @property
    def n_texts(self) -> int:
        """Texts to sample; for the context task twice as many as it needs, as some are too short."""
        one_a_text = self.n_train + self.n_test if {"semantics", "syntax"} & set(self.tasks) else 0
        return self.max_texts or max(one_a_text, 2 * self.context_texts if "context" in self.tasks else 0)
