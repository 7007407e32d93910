"""Latents along joined passages: do they switch where the subject does, and stay on inside?

In come codes along texts that know their boundaries; out come measures of switching, a page and a figure.

switching     the measures
study         which texts, which latents
page figure   what is shown of it
"""
