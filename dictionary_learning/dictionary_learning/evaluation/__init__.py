"""What a dictionary keeps of activations, what it costs the language model, and how steady its codes are.

In come contexts of activations and a dictionary; out come sums over all of them, divided once, with the
number of tokens, the formulas and the masks beside every value; and their table and figure.

options    every option of an evaluation
setting    what a run is evaluated on: as it was trained, unless an option says otherwise
study      several dictionaries, on activations that are made once for each setting
measures   the measures
report     table and figure
results    the files that they go to

The names here are imported when they are first used.
"""

from typing import TYPE_CHECKING

from dictionary_learning import lazy

if TYPE_CHECKING:
    from dictionary_learning.evaluation.measures import FORMULAS, evaluate, flat_keys

__all__ = ["FORMULAS", "evaluate", "flat_keys"]

__getattr__, __dir__ = lazy.names(__name__, {"measures": ("FORMULAS", "evaluate", "flat_keys")})
