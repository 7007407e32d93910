"""Latents along joined passages: do they switch where the subject does, and stay in between?"""

from dictionary_learning.command import cli
from temporal_saes.sequences.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
