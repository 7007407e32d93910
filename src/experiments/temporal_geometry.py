"""Temporal geometry: how many dimensions a part of the activations has, how it bends, and how slow it is."""

from dictionary_learning.command import cli
from temporal_saes.geometry.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
