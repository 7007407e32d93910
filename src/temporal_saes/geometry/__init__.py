"""The dimension, the bends and the speed of a part of the activations over a text.

In come codes of texts; out come paths through the space of activations, and measures of their geometry.

command        the experiment: its flags and `main`
options        what it can be asked
study          every measure of one dictionary's part
trajectories   the paths of texts
parts          how large a part is, and what it misses
measures       rank, dimension, tortuosity, slowness
result figure  what is shown of it
"""
