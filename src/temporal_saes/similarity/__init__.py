"""Similarity kernels of codes over a text, and the boundaries in them.

In come codes of texts; out come cosines between positions, and where a text changes its subject.

command        the experiment: its flags and `main`
options        what it can be asked
study          one dictionary's view of joined texts
kernel         kernels, and the boundaries in them
result figure  what is shown of it
sentences      given sentences as a dictionary sees them
"""
