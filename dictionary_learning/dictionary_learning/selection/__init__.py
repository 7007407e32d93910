"""Which entries of a batch's pre-activations are kept, and in training their gradients.

In come activations and the encoder's weights; out come codes as entries that carry gradients. What is kept
are the largest entries, of all tokens or of each, or those above a threshold, exactly; all pre-activations
are never in memory at once.

encoder    the codes of a batch, with the gradients of what was kept
search     the largest entries, and those above a floor, tile by tile, on a CPU
fixed      the same in a fixed number, on a device that is not to be waited for
quickest   the screens of a search, by a timing
int8       a screen of whole numbers
screens    quick products that exclude what is certainly not among them
"""
