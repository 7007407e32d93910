"""A dictionary attached to a model: its codes read in every forward pass, its latents steered.

In come a model, a dictionary and a place in the model; out come codes of whatever goes through it inside a
block, or other outputs of the model.

methods    what a `LanguageModel` does with a dictionary
modules    the module that a dictionary is attached to, by any of its names
passes     a forward pass watched at the output of a module, with its padding and what its cache holds
positions  which positions a dictionary has codes at, and these codes
reading    the codes of every pass
steering   latents added to, or set, in every pass
"""

MODES = ("add", "clamp")
"""How latents are steered."""
