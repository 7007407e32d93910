"""Dictionaries: from activations to codes and back.

In come activations [..., D], or tensors of a file; out come codes [..., F], dense or as entries, and
reconstructions. Nothing here trains, and nothing here knows where weights lie.

base             what every dictionary is; the parts that `--chunk` asks for
classics         ReLU, gated and JumpReLU dictionaries of one layer
temporal_sae     predicted and novel codes of whole texts
prediction       what the context says about each token, layer by layer
attention        the causal attention in it
context_mean     the same parts without learning: means of the corpus and of earlier tokens, as controls
novel_code       what is kept of what the context left
temporal_tensors the sizes of one from its tensors
temporal_sizes   which of its sizes go together, and which controls it has
inference        its codes for texts of any length and number, in bounded memory
sparse           codes as (row, column, value): selection, products and their gradients
products         dense float32 products, by the quicker of two libraries
tiles            the entries of codes, without all pre-activations in memory
loader           how a class reaches what loads any of them
config_file      the config.json beside the weights, whoever wrote it
weights_file     files of weights, read without running code and checked

Those with a BatchTopK selection stand beside their trainers, whose threshold they carry.
"""
