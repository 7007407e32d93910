"""SAELens 6 folders, `cfg.json` and `sae_weights.safetensors`, read and written without SAELens.

`write` and `read` undo each other: codes are equal, and what SAELens has no place for (k, the groups of
latents, how it was trained) stands in the metadata of cfg.json, from which `read` takes it.

    ours                           SAELens     f, with p = (x - b_dec) W_enc + b_enc
    BatchTopK, Matryoshka, T-SAE   jumprelu    relu(p) where p > threshold
    JumpReluAutoEncoder            jumprelu    the same without subtracting b_dec
    AutoEncoderTopK                topk        the k largest of relu(p), a token
    AutoEncoder, AutoEncoderNew    standard    relu(p), with and without subtracting b_dec
    GatedAutoEncoder               gated
    TemporalSAE                    temporal    there `encode` gives the novel codes alone

`read` also takes `batchtopk` and `matryoshka_batchtopk`, which SAELens only trains: there it saves a jumprelu
for inference, and so are its thresholds meant.

cfg        cfg.json: what it says of an SAE, read and written
reading    a dictionary from a folder
folding    what SAELens does beside the weights, folded into them
writing    a folder from a dictionary
"""

from dictionary_learning.exchange.saelens.cfg import CFG, RUNNER, WEIGHTS
from dictionary_learning.exchange.saelens.reading import Read, read
from dictionary_learning.exchange.saelens.writing import Form, form_of, write

__all__ = ["CFG", "RUNNER", "WEIGHTS", "Form", "Read", "form_of", "read", "write"]
