"""A folder of static pages on which latents are searched and read, and Neuronpedia's files.

In come a dictionary's facts about its latents; out come pages that need no server.

page          the folder of pages
neuronpedia   the same facts as Neuronpedia's files
"""
