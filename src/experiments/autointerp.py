"""Automatic interpretation: latents explained in words, and how well words tell where they are active."""

from dictionary_learning.command import cli
from temporal_saes.autointerp.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
