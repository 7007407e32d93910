"""Pushing latents while the model writes: what is gained, and what it costs.

In come a dictionary, prompts and strengths; out come texts, their scores and the frontier of gain and cost.

options       what can be asked
pushes        the interventions, and the texts written under them
text_scores   surprise, repetition and what is read back from a text
judge         scores by a chat model
frontier      gain against cost
study         which latents, which strengths, in which batches
page figure   what is shown of it
"""
