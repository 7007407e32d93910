"""Linear probes: what can be read from features.

In come features with labels; out come accuracies with intervals, beside chance and the largest class.

command        the experiment: its flags and `main`
options        what it can be asked
study          the probes of one dictionary
last_read      the features of one dictionary, read once for its chunks
examples       which tokens, with the class of each
probes         choosing features, fitting, scoring over seeds
regression     the logistic regression that is fitted
lbfgs          how it is fitted
result figure  what is shown of it
domain_probe   the class of a text, from the model's own activations
"""
