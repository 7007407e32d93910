"""Linear probes: what can be read from features.

In come features with labels; out come accuracies with intervals, beside chance and the largest class.

probes         choosing features, fitting, scoring over seeds
domain_probe   the class of a text, from the model's own activations
"""
