"""What a latent does over a corpus.

In come codes over texts; out come a latent's examples, facts and tables.

codes          codes over a corpus, as entries
dealt          contexts that several processes have encoded, put in order
collector      the one pass that finds examples of all latents
examples       where a latent is strongest, and where it is not
places         the best of many places, and places drawn at random
silence        places at which latents are not active
histogram      how often a latent is how active
facts          all that is said of a latent
smoothness     how steady a latent is
coactivation   which latents are active together
tables         latents of a class, of the unembedding
explanations   what latents are said to mean, from files
"""
