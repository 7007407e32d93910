"""A page on which texts are typed, read through a dictionary, and written on while latents are steered.

In come a run and what is typed on the page; out come its codes and what the model writes, as they are made.
One server, on this machine alone, for a few people with its address.

command    from the command line
options    what can be asked
key        the token in the address, kept for the next time
guard      who is answered: this address, this page, with the token
server     what the page may ask, and the answers as lines of JSON
turns      several people and one language model
reader     a text to the codes of its tokens, a few contexts at a time
writer     two continuations of a prompt, plain and steered
about      what is known of latents
page       the page
"""
