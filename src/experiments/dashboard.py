"""A feature browser: a folder of static pages on every latent of a dictionary."""

from dictionary_learning.command import cli
from temporal_saes.browser.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
