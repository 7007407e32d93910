"""Explanations of latents in words, and how well they tell where a latent is active.

In come codes over texts and a chat model; out come explanations and scores: by questions to the model, and
some that need none.

command       the experiment from the command line
options       what can be asked
sample        which latents, and what is told of them without a model
scores        scores that need no model
negatives     windows without a latent in which its neighbours are active
study         a chat model asked about latents, as far as the budget goes
interpreter   the questions, and what counts as an answer
result        what is written down
folder        where it is written, and whose it is
figure        what is shown of it
sae_bench     results in the form of SAEBench
"""
