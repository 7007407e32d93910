"""Persistence: how long latents stay on, and which of them come back when a dictionary is trained again."""

from dictionary_learning.command import cli
from temporal_saes.persistence.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
