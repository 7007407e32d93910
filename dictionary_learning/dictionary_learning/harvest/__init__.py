"""Activations that were harvested elsewhere, made into a cache that training reads as one of its own.

In come arrays that somebody's own script left; out comes an activation cache.

arrays     the arrays, read by rows, and the contexts in them
importing  the cache, written whole or not at all; compared with the language model
"""
