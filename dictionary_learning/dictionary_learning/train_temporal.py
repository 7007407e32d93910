"""Train a Temporal SAE (arXiv 2511.05541) on the activations of a language model.

    python dictionary_learning/dictionary_learning/train_temporal.py --config demo

Flags override the preset; `--resume` goes on with a run that was stopped:

    python dictionary_learning/dictionary_learning/train_temporal.py --config demo --k 32 --run_name demo_k32
    python dictionary_learning/dictionary_learning/train_temporal.py --run_name demo_k32 --resume
"""

from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser
from dictionary_learning.exchange.beginning import load_beginning
from dictionary_learning.jobs import sweep, train_command


def parser() -> Parser:
    return train_command.parser(__doc__, ["temporal"])


def main(argv: list[str] | None = None) -> None:
    sweep.train(vars(parser().parse_args(argv)), ["temporal"], load_beginning)


if __name__ == "__main__":
    cli.run(main)
