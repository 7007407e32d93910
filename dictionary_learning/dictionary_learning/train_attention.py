"""Train a TemporalSAE, Temporal Feature Analysis (arXiv 2511.01836), on whole texts' activations.

    python dictionary_learning/dictionary_learning/train_attention.py --config demo

Flags override the preset; `--resume` goes on with a run that was stopped:

    python dictionary_learning/dictionary_learning/train_attention.py --config demo --k 32 --run_name tfa_k32
    python dictionary_learning/dictionary_learning/train_attention.py --run_name tfa_k32 --resume
"""

from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser
from dictionary_learning.exchange.beginning import load_beginning
from dictionary_learning.jobs import sweep, train_command


def parser() -> Parser:
    return train_command.parser(__doc__, ["attention"])


def main(argv: list[str] | None = None) -> None:
    sweep.train(vars(parser().parse_args(argv)), ["attention"], load_beginning)


if __name__ == "__main__":
    cli.run(main)
