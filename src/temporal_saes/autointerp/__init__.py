"""Explanations of latents in words, and how well they tell where a latent is active.

In come codes over texts and a chat model; out come explanations and scores: by questions to the model, and
some that need none.

options       what can be asked
study         which latents, which questions, in which order
interpreter   the questions, and what counts as an answer
scores        scores that need no model
result        what is written down
figure        what is shown of it
"""
