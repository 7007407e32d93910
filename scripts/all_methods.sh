#!/usr/bin/env bash
# Take every method through every experiment on the demo's model and texts, and write one table of all numbers.
#
#   bash scripts/all_methods.sh      # after scripts/demo.sh, with whose runs it goes on
#
# Adds a BatchTopK SAE and a TemporalSAE to runs/demo, runs the experiments on all of them, and ends with
# runs/demo/methods.md. It can be stopped and started again: what is finished is not done again.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=runs/demo
cache=$runs/activations
source scripts/experiments.sh
[ -e "$runs/matryoshka/trainer_0/ae.pt" ] || {
  echo "error: there is no $runs/matryoshka: run bash scripts/demo.sh first." >&2
  exit 2
}

SECONDS=0
train batch_top_k "$train/train_baseline.py" --config demo --arch batch_top_k --activations "$cache"
# more texts than the others have: what attention predicts is learnt from many contexts
run "$python" -m dictionary_learning.cache_activations --config demo --activations "$runs/activations_tfa" \
  --max_tokens 300000
train tfa "$train/train_attention.py" --config demo --activations "$runs/activations_tfa"

names=(tsae matryoshka batch_top_k tfa)
subjects=(tsae:0 tsae:1 matryoshka:0 matryoshka:1 batch_top_k:2 tfa:0 tfa:1 baseline_model)

step "evaluate" "$runs/compare_tsae_matryoshka_batch_top_k_tfa.json" "$(weights "${names[@]}")" \
  "$train/eval_temporal.py" --checkpoints_path "$runs" --compare "${names[@]}" --max_tokens 20000 --loss_tokens 4000

# every experiment keeps results that were computed with the same options by itself
experiment 0 probing demo --n_train 1000 --n_test 400 --repeats 3 --k 1 10
experiment 0 sequence_interpretability demo
experiment 0 similarity demo
experiment 0 temporal_geometry demo
experiment 0 tsne demo
experiment 0 alignment_study demo
everything=("${subjects[@]}")
# directions to steer along: predicted codes have those of the novel ones
subjects=(tsae:0 tsae:1 matryoshka:0 batch_top_k:2 tfa:1)
experiment 0 steering demo --n_latents 6

step "the table of all methods" "$runs/methods.md" "$(compgen -G "$runs/comparisons/*/*.png")" \
  -m temporal_saes.method_table --checkpoints_path "$runs" --compare "${everything[@]}" --output "$runs/methods.md"

echo
echo "done in $((SECONDS / 60)) min $((SECONDS % 60)) s; open $runs/methods.md"
