"""Similarity kernels: does a code see the events of a text?"""

from dictionary_learning.command import cli
from temporal_saes.similarity.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
