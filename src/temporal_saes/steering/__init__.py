"""Pushing latents while the model writes: what is gained, and what it costs.

In come a dictionary, prompts and strengths; out come texts, their scores and the frontier of gain and cost.

command          the experiment from the command line
options          what can be asked
prompts          what the model continues
corpus           what the latents do on texts, and a probe of their classes
chosen_latents   which latents are pushed, and what is known of them
pushes           the interventions, and the texts written under them
text_scores      surprise, repetition and what is read back from a text
judge            scores by a chat model
study            every push of every latent, written and scored
frontier         gain against cost
result           the same as a table in the terminal
page figure      what is shown of it
"""
