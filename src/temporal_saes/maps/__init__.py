"""Maps of features in two dimensions, with the quality of their clusters as numbers.

In come features of tokens; out come points, scores, a page and a figure.

feature_map   distances, projections and scores
points        which tokens, and what is known of each
page figure   what is shown of it
"""
