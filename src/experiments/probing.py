"""Probing: what a few latents tell about domain, part of speech, and which text a token is from."""

from dictionary_learning.command import cli
from temporal_saes.probing.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
