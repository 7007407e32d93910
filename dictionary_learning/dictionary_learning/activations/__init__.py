"""The activations of a corpus at one place in a language model: each stored once, in its context.

In come documents and a language model, or the folder of a cache; out come shuffled batches of single tokens,
of pairs (a token and an earlier one of its text), of means over spans, or of whole contexts, and a position
to go on from.

contexts       documents cut into contexts of tokens
block          the contexts that are in memory together, packed; which tokens are usable
batches        the four shuffled views of blocks
sequences      a batch of whole texts, packed without padding
store          a store: where blocks come from is left open
read_ahead     a store whose next block is read while the present one is in use
recording      contexts through the language model, at one place or several
live_store     blocks made by running the language model
cache          blocks read from a folder on disk
cache_plan     what that folder will hold, and whether the disk has room for it
cache_writer   that folder written, by one process or several, and gone on with after an interruption
piece          a block while it is written
backstage      the next piece begun and the last one finished, beside the language model
shard          one file of that folder
shard_files    what a cache says of these files, and where they lie: here, or at a URL
options        what activations are made from, once for training, caching and evaluation
"""
