"""Train an SAE to compare a Temporal SAE with, on the same activations and budget.

    python dictionary_learning/dictionary_learning/train_baseline.py --arch matryoshka --config demo

Every other flag is as in train_temporal.py.
"""

from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser
from dictionary_learning.exchange.beginning import load_beginning
from dictionary_learning.jobs import sweep, train_command

BASELINES = ["batch_top_k", "matryoshka", "top_k", "standard", "jumprelu", "gated"]


def parser() -> Parser:
    return train_command.parser(__doc__, BASELINES)


def main(argv: list[str] | None = None) -> None:
    sweep.train(vars(parser().parse_args(argv)), BASELINES, load_beginning)


if __name__ == "__main__":
    cli.run(main)
