#!/usr/bin/env bash
# sae-lens 6.54.12: ActivationsStore.reset_input_dataset "Resets the input dataset iterator to the beginning"; run_evals calls
# it. Which texts come next, and is an SAE that is evaluated twice by one store evaluated on the same texts?
#
# Expected: the first ones again, and yes.
# Seen (2026-11-28): the next ones, and no. It sets an attribute that nothing reads. run_evals measures the loss on texts 0
# to 7 and L0 and explained variance on 8 to 11, and a second call, or a second SAE, gets texts 12 to 23. shuffle_input_dataset
# has an effect before the first batch and none behind it.
# What follows: make a store for each evaluation, or take the batches once and give them to every SAE, before the figures
# of two SAEs are compared.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch==2.13.0 transformer-lens==3.9.0 \
  transformers==5.23.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from datasets import Dataset
from sae_lens import SAE
from sae_lens.evals import EvalConfig, run_evals
from sae_lens.training.activation_scaler import ActivationScaler
from sae_lens.training.activations_store import ActivationsStore
from transformer_lens import HookedTransformer, HookedTransformerConfig

torch.set_num_threads(1)
torch.manual_seed(0)
n_texts, length, width = 100, 16, 8
config = HookedTransformerConfig(
    n_layers=1, d_model=width, d_head=4, n_heads=2, n_ctx=length, d_vocab=n_texts, act_fn="gelu"
)
model = HookedTransformer(config)
texts = Dataset.from_dict({"tokens": [[n] * length for n in range(n_texts)]})  # the n-th text is the token n
sae = SAE.from_dict({"architecture": "standard", "d_in": width, "d_sae": 16})
sae.cfg.metadata.hook_name = "blocks.0.hook_resid_post"
sae.cfg.metadata.prepend_bos = False


def store():
    return ActivationsStore.from_sae(
        model, sae, texts, context_size=length, streaming=False, store_batch_size_prompts=4
    )


def read(from_store, n=4):
    return from_store.get_batch_tokens(n)[:, 0].tolist()


one = store()
print("first:", read(one))
one.reset_input_dataset()
print("after reset_input_dataset:", read(one))
one.shuffle_input_dataset(seed=0)
print("after shuffle_input_dataset:", read(one))
other = store()
other.shuffle_input_dataset(seed=0)
print("shuffled before the first batch, in order:", read(other) == [0, 1, 2, 3])

one = store()
seen = []
of_store = one.get_batch_tokens
one.get_batch_tokens = lambda *args, **kwargs: seen.append(of_store(*args, **kwargs)) or seen[-1]
what = EvalConfig(n_eval_reconstruction_batches=2, compute_ce_loss=True, compute_sparsity_metrics=True)
for call in (1, 2):
    seen.clear()
    run_evals(sae, one, model, ActivationScaler(), what, exclude_special_tokens=False)
    print(f"run_evals, call {call}: texts", [f"{int(batch.min())} to {int(batch.max())}" for batch in seen])
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep -E "^(first|after|shuffled|run_evals)")
echo "$said"
[ "$said" = "first: [0, 1, 2, 3]
after reset_input_dataset: [4, 5, 6, 7]
after shuffle_input_dataset: [8, 9, 10, 11]
shuffled before the first batch, in order: False
run_evals, call 1: texts ['0 to 3', '4 to 7', '8 to 11']
run_evals, call 2: texts ['12 to 15', '16 to 19', '20 to 23']" ] || {
  echo "this is not what was seen before"
  exit 1
}
