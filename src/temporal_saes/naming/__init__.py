"""What latents are held over: named by their passages, without a language model.

In come codes over texts; out come words, titles and classes of each latent, and how well the words find
passages that they were not learnt from.

command        the experiment: its flags and `main`
options        what it can be asked
study          names and scores of one dictionary
result figure  what is shown of it
found          names that a run has, for other pages
names          the names of all latents, from one pass over their codes
words          the words of a context, and their tokens
stretches      where a latent stays on
counts         how often a latent is on at words and documents
log_odds       what a part holds more of than the rest
information    how much a latent tells about the document
windows        stretches of equal length, half of the texts held out
lists          how well a list of words finds windows
"""
