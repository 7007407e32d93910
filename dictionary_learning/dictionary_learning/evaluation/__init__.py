"""What a dictionary keeps of activations, what it costs the language model, and how steady its codes are.

In come contexts of activations and a dictionary; out come sums over all of them, divided once, with the
number of tokens, the formulas and the masks beside every value; and their table and figure.

options    every option of an evaluation
setting    what a run is evaluated on: as it was trained, unless an option says otherwise
study      several dictionaries, on activations that are made once for each setting
measures   dictionaries evaluated together
target     the tokens of a batch, and what all dictionaries need of them
decoding   what each split of a code adds to a reconstruction
reconstruction, activity    sums over tokens, and the figures made of them
sums       sums that stay on the device
formulas   what the figures mean
library_keys    the same under the dictionary_learning library's names
report     table and figure
results    the files that they go to

The names here are imported when they are first used.
"""

from typing import TYPE_CHECKING

from dictionary_learning import lazy

if TYPE_CHECKING:
    from dictionary_learning.evaluation.formulas import FORMULAS
    from dictionary_learning.evaluation.library_keys import flat_keys
    from dictionary_learning.evaluation.measures import evaluate, evaluate_together

__all__ = ["FORMULAS", "evaluate", "evaluate_together", "flat_keys"]

__getattr__, __dir__ = lazy.names(
    __name__,
    {
        "formulas": ("FORMULAS",),
        "library_keys": ("flat_keys",),
        "measures": ("evaluate", "evaluate_together"),
    },
)
