#!/usr/bin/env bash
# sae-lens 6.54.12: ActivationsStore mixes the tokens of n_batches_in_buffer batches ("The larger it is, the better shuffled
# the activations will be"); the configuration logs their product with the contexts a batch. Of how many contexts is a
# training batch of 4,096 tokens, with 32 batches of 32 contexts of 128 tokens in the buffer?
#
# Expected: of nearly all the 1,024 contexts in the buffer, as in a random draw of 4,096 of its 131,072 tokens.
# Seen (2026-11-28): of 32, every time: each training batch is one forward pass, whole contexts of neighbouring texts, and
# nothing is mixed. The buffer has n_batches_in_buffer contexts, not batches (n_batches_in_buffer x context_size tokens),
# while the log says 0.131072 million. With the default of 20 the default context size and batch size are refused with
# "Buffer size must be greater than or equal to batch size".
# What follows: multiply n_batches_in_buffer by store_batch_size_prompts to get the buffer that is meant, and count the
# contexts of a batch before SAEs are compared by how well their data were shuffled.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch==2.13.0 transformer-lens==3.9.0 \
  transformers==5.23.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import logging

import torch
from datasets import Dataset
from sae_lens import LanguageModelSAERunnerConfig, LoggingConfig, StandardTrainingSAEConfig
from sae_lens.training.activations_store import ActivationsStore
from transformer_lens import HookedTransformer, HookedTransformerConfig

torch.set_num_threads(1)
torch.manual_seed(0)
n_contexts, width = 3200, 8
config = HookedTransformerConfig(
    n_layers=1, d_model=width, d_head=4, n_heads=2, n_ctx=128, d_vocab=n_contexts, act_fn="gelu"
)
model = HookedTransformer(config)
with torch.no_grad():  # an embedding from which the token, and so the context, is read off
    model.embed.W_E[:] = torch.arange(float(n_contexts))[:, None]
contexts = Dataset.from_dict({"tokens": [[n] * 128 for n in range(n_contexts)]})


class Said(logging.Handler):
    def emit(self, record):
        if "n_tokens_per_buffer" in record.getMessage():
            print("logged:", record.getMessage())


logging.getLogger("sae_lens").addHandler(Said())
logging.getLogger("sae_lens").setLevel(logging.INFO)
for n_batches in (20, 32, 32 * 32):
    runner = LanguageModelSAERunnerConfig(
        sae=StandardTrainingSAEConfig(d_in=width, d_sae=16),
        model_name="none",
        hook_name="hook_embed",
        dataset_path="none",
        n_batches_in_buffer=n_batches,
        training_tokens=4096 * 100,
        prepend_bos=False,
        streaming=False,
        device="cpu",
        logger=LoggingConfig(log_to_wandb=False),
    )
    assert (runner.context_size, runner.store_batch_size_prompts, runner.train_batch_size_tokens) == (128, 32, 4096)
    store = ActivationsStore.from_config(model, runner, override_dataset=contexts)
    try:
        found = [len(store.next_batch()[:, 0].unique()) for _ in range(3)]
        found = "more than 900" if min(found) > 900 else found
    except ValueError as error:
        found = error
    print(f"{n_batches} batches of 32 contexts in the buffer; contexts in a training batch: {found}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep -E "^logged|in a training batch")
echo "$said"
[ "$(echo "$said" | sort -u)" = "$(sort -u <<'SEEN'
logged: n_tokens_per_buffer (millions): 0.08192
20 batches of 32 contexts in the buffer; contexts in a training batch: Buffer size must be greater than or equal to batch size
logged: n_tokens_per_buffer (millions): 0.131072
32 batches of 32 contexts in the buffer; contexts in a training batch: [32, 32, 32]
logged: n_tokens_per_buffer (millions): 4.194304
1024 batches of 32 contexts in the buffer; contexts in a training batch: more than 900
SEEN
)" ] || {
  echo "this is not what was seen before"
  exit 1
}
