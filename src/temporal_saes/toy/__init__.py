"""A toy corpus whose features are known, slow and fast, and how well dictionaries find them.

In come options alone; out come scores against the truth.

command        the experiment: its flags and `main`
options        what it can be asked
world          the features, and texts drawn from them
store          these texts as every trainer reads activations
methods        the dictionaries that are trained on them
study          one seed: a world, its dictionaries, their scores
recovery       which truths are found: directions and firing
separation     whether slow and fast truths are kept apart
result figure  what is shown of it
"""
