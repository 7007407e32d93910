"""A feature browser's latents on a Neuronpedia: what would be sent, and sending it.

In come the files that the browser wrote for Neuronpedia; out go its latents, 128 at a time.

command    from the command line
options    what can be asked
bodies     the files that are sent
sending    through Neuronpedia's own client, resumable
"""
