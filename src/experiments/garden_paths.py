"""Garden paths: once its end has told how a sentence is to be read, do codes show it?"""

from dictionary_learning.command import cli
from temporal_saes.garden_paths.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
