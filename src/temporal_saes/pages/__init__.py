"""What all pages share: one frame, one style sheet, and texts coloured by latents.

In come results; out comes HTML in which every text from a model, a data set or a file is escaped.

page            the frame of a page
token_colours   a text coloured by a latent
text_latents    the latents of a text
"""
