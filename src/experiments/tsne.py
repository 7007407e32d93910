"""Maps of features in two dimensions, coloured by part of speech, domain and sequence."""

from dictionary_learning.command import cli
from temporal_saes.maps.command import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    cli.run(main)
