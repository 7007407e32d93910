"""What a latent does over a corpus.

In come codes over texts; out come a latent's examples, facts and tables.

codes          codes over a corpus, as entries
examples       where a latent is strongest, and where it is not
facts          all that is said of a latent
smoothness     how steady a latent is
coactivation   which latents are active together
tables         latents of a class, of the unembedding
places         spreading chosen places over a range
explanations   what latents are said to mean, from files
"""
