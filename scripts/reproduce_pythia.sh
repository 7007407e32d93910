#!/usr/bin/env bash
# The T-SAE paper's experiments on Pythia-160m layer 8 (arXiv 2511.05541), in order, on a machine with a GPU.
#
#   bash scripts/reproduce_pythia.sh --dry_run    # check every argument and print the plan: no GPU, no network
#   bash scripts/reproduce_pythia.sh
#
#   --runs FOLDER       where runs and results go; runs/pythia-160m if not given
#   --copies FOLDER     local copies of data sets, each in a folder of its name (pile, finefineweb, wikipedia, mmlu,
#                       hh-rlhf), in place of the hub
#   --judge_url URL --judge_model NAME    an OpenAI-compatible server that judges steered texts
#
# It can be stopped at any time and started again: a step whose result is there is not done again, and training
# goes on from its last save. Estimates of time and disk are explained in scripts/experiments.sh, the published
# figures stand with each step, and docs/replication.md has what came out on the demo's small model.
# Not in here: the paper's autointerp scores, which need a judge of the size of Llama-3.3-70B-Instruct.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/experiments.sh
begin runs/pythia-160m "$@"
preset=pythia-160m
seeds=(0 1 2)

# --- Table 1: the three methods ---

expect 16 2.5 ""
sae tsae train_temporal.py --seeds "${seeds[@]}"
expect 11 2.1 ""
sae matryoshka train_baseline.py --arch matryoshka --seeds "${seeds[@]}"
expect 11 2.1 ""
sae batch_top_k train_baseline.py --arch batch_top_k --seeds "${seeds[@]}"

# --- ablations, one seed each ---

expect 9 0.7 ""
sae random_pairs train_temporal.py --pair_mode random
expect 9 0.7 ""
sae split_50_50 train_temporal.py --group_fractions 0.5 0.5
expect 9 0.7 ""
sae split_10_90 train_temporal.py --group_fractions 0.1 0.9
expect 9 0.7 ""
sae l1_similarity train_temporal.py --no_contrastive

# --- evaluation ---

for seed in "${seeds[@]}"; do
  expect 0.3 0.1 \
    "FVE .94/.95/.95, cosine .93/.94/.94, alive .87/.89/.84, smoothness .09/.12/.13 (T-SAE/Matryoshka/BatchTopK)"
  evaluate "$seed" tsae matryoshka batch_top_k
done
expect 0.4 0.1 \
  "FVE/alive/smoothness against tsae: random 0/-.05/0, 50/50 -.01/+.01/0, 10/90 0/-.07/-.02, L1 +.01/+.06/+.07"
evaluate 0 random_pairs split_50_50 split_10_90 l1_similarity

# --- probing ---

subjects=(tsae:2 tsae:0 tsae:1 matryoshka:2 matryoshka:0 batch_top_k:2 baseline_model)
for seed in "${seeds[@]}"; do
  probe "$seed" finefineweb \
    "T-SAE .647/.796/.799, Matryoshka .576/.848/.430, BatchTopK .587/.847/.654, dense .703/.865/.835"
  probe "$seed" wikipedia \
    "T-SAE .633/.770/.731, Matryoshka .568/.824/.582, BatchTopK .559/.815/.605, dense .718/.832/.869 (other classes)"
  probe "$seed" mmlu ""
done
subjects=(random_pairs:2 split_50_50:2 split_10_90:2 l1_similarity:2)
probe 0 finefineweb \
  "against tsae: random -.02/-.10/+.11, 50/50 +.02/-.08/+.09, 10/90 -.01/+.01/+.01, L1 -.07/+.01/-.10"

# --- figures ---

subjects=(tsae:0 tsae:1 matryoshka:0 batch_top_k:2 baseline_model)
draw_maps
look_at_sequences

# --- the studies that the paper made with Gemma-2-2b, in kind ---

subjects=(tsae:0 tsae:1 matryoshka:2 baseline_model)
expect 0.5 0.1 "rejected answers are longer: 49.24 against 37.84 tokens, p = 9e-10; length is a spurious feature"
experiment 0 alignment_study hh-rlhf
subjects=(tsae:0 matryoshka:0)
expect 2 0.1 "the T-SAE's frontier of success and coherence is better than a Matryoshka SAE's"
experiment 0 steering finefineweb --n_latents 30 "${judge[@]}"

write_pages tsae matryoshka batch_top_k
end
