"""A toy corpus with known features: which dictionaries find them, and tell slow ones from fast ones."""

from dictionary_learning.command import cli
from temporal_saes.toy.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
