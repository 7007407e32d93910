#!/usr/bin/env bash
# What reproduce_pythia.sh and reproduce_gemma.sh share: their flags, and the papers' experiments as steps.
# all_methods.sh takes the steps alone.
#
# Hours and gigabytes are estimates; no GPU was at hand. Hours are reckoned for one GPU that sustains 10 TFLOP/s in
# float32 and 100 TFLOP/s in bfloat16 (about half and a third of what an A100 can do at most):
#   language model   2 operations a parameter and token, in the layers up to the one that is read: 64 M parameters
#                    in Pythia-160m, 1.0 B in Gemma-2-2b, 3.5 B and 5.9 B in Llama-3.1-8B (layers 15 and 26)
#   SAE              2 x width x latents a token, twice for the pairs of a T-SAE, and half of it again for the rest
#                    of the step, which is sparse; in bfloat16 twice that, as memory limits it
#   TemporalSAE      3 x 2 operations a parameter and token, where the atoms count four times
# times 1.6 billion tokens (T-SAE paper: 200,000 steps of 8,192) or 1 billion (TFA). The texts are streamed once for
# each run, all of whose seeds train on the same batches. The hours of experiments are guesses from what they read.
# Gigabytes: 4 bytes a weight, times the checkpoints that are kept (four), and three times for the state to resume.
source scripts/steps.sh

train=dictionary_learning/dictionary_learning
copies=''

usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
fail() {
  echo "error: $*" >&2
  exit 2
}

# begin RUNS FLAGS...: read the flags; RUNS is where runs go if --runs does not say. Sets llama, copies, judge.
# --llama is a flag of scripts that have set llama to no.
begin() {
  runs=$1 copies='' judge=()
  shift
  local dry_run=''
  while [ $# -gt 0 ]; do
    case $1 in
      --dry_run) dry_run=yes ;;
      --llama)
        [ -n "${llama:-}" ] || fail "there is no flag --llama here: reproduce_gemma.sh has it."
        llama=yes
        ;;
      --runs | --copies | --judge_url | --judge_model)
        [ $# -gt 1 ] || fail "$1 needs a value (see $0 --help)."
        case $1 in
          --runs) runs=$2 ;;
          --copies) copies=$2 ;;
          *) judge+=("$1" "$2") ;;
        esac
        shift
        ;;
      -h | --help)
        usage
        exit
        ;;
      *) fail "there is no flag $1: see $0 --help." ;;
    esac
    shift
  done
  [ -z "$copies" ] || [ -d "$copies" ] || fail "there is no folder $copies: check --copies."
  command -v "$python" >/dev/null ||
    fail "there is no $python: run 'poetry install --extras \"demo syntax dev\"', or set STEPS_PYTHON to the interpreter that has it."
  [ -z "$dry_run" ] || { plan=$(mktemp) && trap 'rm -f "$plan"' EXIT; }
  SECONDS=0
}

# end: with --dry_run check and print the plan, else say how long it took.
end() {
  if [ -n "$plan" ]; then
    "$python" scripts/check_arguments.py <"$plan"
    return
  fi
  echo
  echo "done in $((SECONDS / 3600)) h $((SECONDS % 3600 / 60)) min; open $runs/report.html and $runs/methods.md"
}

# of_copy NAME: the flag that takes a data set from its folder in --copies, if it is there.
of_copy() {
  local_copy=()
  if [ -n "$copies" ] && [ -e "$copies/$1" ]; then local_copy=(--data_path "$copies/$1"); fi
}

# sae NAME SCRIPT FLAGS...: train on the Pile with the preset.
sae() {
  of_copy pile
  train "$1" "$train/$2" --config "$preset" "${@:3}" "${local_copy[@]}"
}

# of_seed SEED EXPERIMENT: sets folder and where for results; those of seed 0 go where the report looks for them.
of_seed() {
  folder=$runs/comparisons/$2 where=()
  if [ "$1" != 0 ]; then
    folder=$runs/seed$1/$2
    where=(--trainer "$1" --output_dir "$folder")
  fi
}

# evaluate SEED NAME...: reconstruction, smoothness and what it costs the language model, on held-out documents.
evaluate() {
  local seed=$1
  shift
  of_seed "$seed" evaluation
  [ "$seed" != 0 ] || folder=$runs
  local names
  names=$(IFS=_ && echo "$*")
  [ "$seed" = 0 ] || names+=_trainer$seed
  step "evaluate $* (seed $seed)" "$folder/compare_$names.json" "$(weights "$@")" \
    "$train/eval_temporal.py" --checkpoints_path "$runs" --compare "$@" --max_tokens 1000000 --loss_tokens 100000 \
    "${where[@]}"
}

# experiment SEED NAME DATASET FLAGS...: an experiment on "${subjects[@]}".
experiment() {
  local seed=$1 name=$2 dataset=$3 subject names=()
  shift 3
  for subject in "${subjects[@]}"; do
    [ "$subject" = baseline_model ] || names+=("${subject%:*}")
  done
  of_seed "$seed" "$name"
  of_copy "$dataset"
  step "$name on $dataset: ${subjects[0]} and others (seed $seed)" \
    "$folder/*$dataset*_${subjects[0]/:/-}_*.png" "$(weights "${names[@]}")" \
    "src/experiments/$name.py" --checkpoints_path "$runs" --dataset "$dataset" "${local_copy[@]}" \
    --compare "${subjects[@]}" "${where[@]}" "$@"
}

# look_at_sequences: what stays and what switches along a text. Of "${subjects[@]}".
look_at_sequences() {
  expect 0.5 0.1 \
    "T-SAE Figures 1 and 4: high-level latents switch at the boundaries and stay on inside; others flicker"
  experiment 0 sequence_interpretability finefineweb
  expect 0.5 0.1 "TFA: predicted codes have blocks at event boundaries (cut at cosine .2)"
  experiment 0 similarity finefineweb
  expect 0.5 0.1 "TFA: predicted part effective rank 20 to 30, tortuosity about 2; novel part 390 to 410, 25 to 30"
  experiment 0 temporal_geometry finefineweb
}

# draw_maps: of "${subjects[@]}" on every labelled data set.
draw_maps() {
  local dataset flags
  for dataset in finefineweb wikipedia mmlu; do
    flags=()
    [ "$dataset" != wikipedia ] || flags=(--categories demo)
    expect 0.5 0.1 ""
    experiment 0 tsne "$dataset" "${flags[@]}"
  done
}

# probe SEED DATASET PUBLISHED: "${subjects[@]}", as many texts as the paper; accuracies semantics/syntax/context.
probe() {
  local flags=()
  [ "$2" != wikipedia ] || flags=(--categories demo)
  expect 1 0.1 "${3:+semantics/syntax/context: $3}"
  experiment "$1" probing "$2" --n_train 3000 --n_test 1000 "${flags[@]}"
}

# write_pages NAME...: the page about the first run with the others beside it, and the table of all results.
write_pages() {
  expect 0.2 0.1 ""
  step "the page" "$runs/report.html" "$(weights "$@")" \
    -m temporal_saes.report --checkpoints_path "$runs" --run_name "$1" --compare "${@:2}" --output "$runs/report.html"
  expect 0.1 0.1 ""
  step "the table of all methods" "$runs/methods.md" "$(compgen -G "$runs/comparisons/*/*.png")" \
    -m temporal_saes.method_table --checkpoints_path "$runs" --output "$runs/methods.md"
}
