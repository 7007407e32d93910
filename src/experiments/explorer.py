"""An explorer: a page on which texts are read through a dictionary, and written on while it is steered."""

from dictionary_learning.command import cli
from temporal_saes.explorer.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
