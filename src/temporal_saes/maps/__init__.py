"""Maps of features in two dimensions, with the quality of their clusters as numbers.

In come features of tokens; out come points, scores, a page and a figure.

command             the experiment: its flags and `main`
options             what it can be asked
study               the map of one dictionary
points              which tokens, and what is known of each
feature_map         distances, projections and scores
result page figure  what is shown of it
"""
