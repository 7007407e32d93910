"""Which latents tell preferred answers from rejected ones, and which only their length.

In come preference pairs and features; out come paired effects with their tests, a page and figures.

pairs              preference pairs of the demo, of HH-RLHF, of files
responses          the tokens of an answer, and the means of features over them
surface_features   what differs between two answers on the surface
statistics         paired tests, corrected for their number
study              the tests of all latents
examples           what a latent does on answers
result             what is written down of a study
page figures       what is shown of it
"""
