"""Steering: push latents while the language model writes, and see what is gained and what it costs."""

from dictionary_learning.command import cli
from temporal_saes.steering.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
