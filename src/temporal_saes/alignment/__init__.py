"""Which latents tell preferred answers from rejected ones, and which only their length.

In come preference pairs and features; out come paired effects with their tests, a page and figures.

command            the study from the command line
options            what can be asked
names              names of results
pairs              preference pairs of the demo, of HH-RLHF, of files
responses          the tokens of an answer, and the means of features over them
surface_features   what differs between two answers on the surface
statistics         paired tests, corrected for their number
differences        the tests of all latents
study              one subject, from its answers to what is written down
examples           what a latent does on answers
result             what is written down of a study
page               what is shown of it, put together of:
findings           what came out, in sentences
latent_panels      the latents that differ most, on examples
wording            numbers and names as a page writes them
figure             all latents in a picture
"""
