"""Naming: the words, titles and classes that latents are held over, and how well the words find passages."""

from dictionary_learning.command import cli
from temporal_saes.naming.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
