"""`python -m temporal_saes.report`."""

from dictionary_learning.command import cli
from temporal_saes.report.command import main

if __name__ == "__main__":
    cli.run(main)
