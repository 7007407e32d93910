"""Similarity kernels of codes, and the dimension, the bends and the speed of a part of the activations.

In come codes of texts; out come kernels with their boundaries, and measures of their geometry.

parts        codes of a subject over texts
sentences    sentences of a dictionary's own view of a text
similarity   kernels and the boundaries in them
measures     rank, dimension, tortuosity, slowness
"""
