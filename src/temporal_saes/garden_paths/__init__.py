"""Garden-path sentences: which reading of a sentence do codes see, once its end has told?

In come triples of sentences with the same end: one that leads astray, one that says the right reading from
the start, one in which the first reading stays right. Out comes which of the two the first one's codes are
like.

command        the experiment: its flags and `main`
options        what it can be asked
triples        the sentences, and the tokens that all three of a triple end with
study          one dictionary's codes of them
result figure  what is shown of it
"""
