"""`python -m temporal_saes.method_table`."""

from dictionary_learning.command import cli
from temporal_saes.method_table.command import main

if __name__ == "__main__":
    cli.run(main)
