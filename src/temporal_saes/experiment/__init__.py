"""What all experiments share: the flags, the subject they point at, and what a result says of itself.

In come flags; out come a dictionary with the model, layer and tokenisation it was trained on, and the places
and names of results. Importing any of it but `text_codes` loads neither torch nor numpy.

command     what the `main` of every experiment is made of
options     the shared flags, in blocks that an experiment's options extend
subjects    the dictionaries that the flags name, and their language model
texts       the texts that the flags name
text_codes  codes of a subject over whole texts
results     one JSON a subject that holds all that decided its numbers; where a comparison goes
numbers     what one result file says: its numbers by their names
over_seeds  an experiment on several seeds of each run, with the spread of its numbers
names       names of files
intervals   means with 95 % intervals
short_text  the beginning of a text where there is little room
"""
