"""What all experiments share: the flags, the subject they point at, and what a result says of itself.

In come flags; out come a dictionary with the model, layer and tokenisation it was trained on, and the places
and names of results.

options     the shared flags, and the subject that they name
results     one JSON a subject that holds all that decided its numbers; where a comparison goes
intervals   means with 95 % intervals
"""
