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
train=dictionary_learning/dictionary_learning
source scripts/steps.sh
[ -e "$runs/matryoshka/trainer_0/ae.pt" ] || {
  echo "error: there is no $runs/matryoshka: run bash scripts/demo.sh first." >&2
  exit 2
}

SECONDS=0
train batch_top_k "$train/train_baseline.py" --config demo --arch batch_top_k --activations "$cache"
# more texts than the others have: what attention predicts is learnt from many contexts
"$python" -m dictionary_learning.cache_activations --config demo --activations "$runs/activations_tfa" \
  --max_tokens 300000
train tfa "$train/train_attention.py" --config demo --activations "$runs/activations_tfa"

names=(tsae matryoshka batch_top_k tfa)
subjects=(tsae:0 tsae:1 matryoshka:0 matryoshka:1 batch_top_k:2 tfa:0 tfa:1 baseline_model)

step "evaluate" "$runs/compare_tsae_matryoshka_batch_top_k_tfa.json" "$(weights "${names[@]}")" \
  "$train/eval_temporal.py" --checkpoints_path "$runs" --compare "${names[@]}" --max_tokens 20000 --loss_tokens 4000

# every experiment keeps results that were computed with the same options by itself
experiment() {
  step "$1" "$runs/comparisons/$1/*.png" "$(weights "${names[@]}")" \
    "src/experiments/$1.py" --checkpoints_path "$runs" --dataset demo "${@:2}"
}
experiment probing --n_train 1000 --n_test 400 --repeats 3 --k 1 10 --compare "${subjects[@]}"
experiment sequence_interpretability --compare "${subjects[@]}"
experiment similarity --compare "${subjects[@]}"
experiment temporal_geometry --compare "${subjects[@]}"
experiment tsne --compare "${subjects[@]}"
experiment alignment_study --compare "${subjects[@]}"
# directions to steer along: predicted codes have those of the novel ones
experiment steering --n_latents 6 --compare tsae:0 tsae:1 matryoshka:0 batch_top_k:2 tfa:1

step "the table of all methods" "$runs/methods.md" "$(compgen -G "$runs/comparisons/*/*.png")" \
  -m temporal_saes.method_table --checkpoints_path "$runs" --compare "${subjects[@]}" --output "$runs/methods.md"

echo
echo "done in $((SECONDS / 60)) min $((SECONDS % 60)) s; open $runs/methods.md"
