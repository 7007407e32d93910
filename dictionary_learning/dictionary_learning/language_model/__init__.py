"""The only room that knows transformers and nnsight.

In come a model's name and texts; out come token ids with masks, the activations after a decoder layer or of
its attention or MLP, the model's losses where these are replaced, and continuations.

model            `LanguageModel`: load, tokenise, record, intervene, generate
source           where weights come from: the hub, a folder, or `demo`
places           where in the model a dictionary reads, under all the names that such a place has
decoder_layers   finding the decoder layers of any architecture, and what they add to the residual stream
hooks            the outputs of some modules, from one pass
edits            what can be put in place of a layer's output
attach           a room: dictionaries attached to a model, to read codes in every pass or to steer latents
tokens           token ids, special tokens and padding
decoding         token ids back to text
text_codes       texts to the codes of a dictionary, in one call
token_text       tokens as text a person can read
generation       continuing prompts, with or without an intervention
cross_entropy    the loss with the layer's output as it is, reconstructed, and ablated
skipping         passes in which the layers below one do not run again
fingerprint      which weights and which tokenizer made some activations
sizes            how large a model is, from its config alone
model_files      which files a model is read from, without loading it

The names here are imported when they are first used.
"""

from typing import TYPE_CHECKING

from dictionary_learning import lazy

if TYPE_CHECKING:
    from dictionary_learning.language_model.attach.reading import attached
    from dictionary_learning.language_model.attach.steering import steered
    from dictionary_learning.language_model.edits import add, only, replace, zero
    from dictionary_learning.language_model.generation import Continuation
    from dictionary_learning.language_model.hooks import Edit
    from dictionary_learning.language_model.model import LanguageModel
    from dictionary_learning.language_model.places import Place

__all__ = [
    "Continuation",
    "Edit",
    "LanguageModel",
    "Place",
    "add",
    "attached",
    "only",
    "replace",
    "steered",
    "zero",
]

__getattr__, __dir__ = lazy.names(
    __name__,
    {
        "generation": ("Continuation",),
        "attach.reading": ("attached",),
        "attach.steering": ("steered",),
        "edits": ("add", "only", "replace", "zero"),
        "hooks": ("Edit",),
        "model": ("LanguageModel",),
        "places": ("Place",),
    },
)
