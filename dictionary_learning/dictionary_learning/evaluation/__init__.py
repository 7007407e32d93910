"""What a dictionary keeps of activations, what it costs the language model, and how steady its codes are.

In come contexts of activations and a dictionary; out come sums over all of them, divided once, with the
number of tokens, the formulas and the masks beside every value; and their table and figure.

evaluate   the measures
report     table and figure
"""

from dictionary_learning.evaluation.evaluate import FORMULAS, evaluate, flat_keys

__all__ = ["FORMULAS", "evaluate", "flat_keys"]
