"""Alignment study: which latents tell preferred answers from rejected ones, and which only their length?"""

from dictionary_learning.command import cli
from temporal_saes.alignment.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
