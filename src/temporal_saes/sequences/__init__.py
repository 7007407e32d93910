"""Latents along joined passages: do they switch where the subject does, and stay on inside?

In come codes along texts that know their boundaries; out come measures of switching, a page and a figure.

command             the experiment: its flags and `main`
options             what it can be asked
texts               which texts
study               which latents, and their scores
switching           the measures
result page figure  what is shown of it
"""
