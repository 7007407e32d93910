"""How long latents stay on, and which of them come back when a dictionary is trained again.

In come codes of texts and directions of several seeds; out come means over latents, each with its
interval over seeds.

command        the experiment: its flags and `main`
options        what it can be asked
study          one chunk of a run, over all its seeds
measures       persistence at a lag, and cosines of matched latents
result figure  what is shown of it
"""
