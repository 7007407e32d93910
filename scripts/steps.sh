#!/usr/bin/env bash
# Steps that are done once. Sourced by demo.sh and, through experiments.sh, by all_methods.sh and reproduce_*.sh,
# with $runs set.
#
# Where $plan names a file, nothing is done: every step is written there, for check_arguments.py to check and print.
python=${STEPS_PYTHON:-.venv/bin/python}
plan=${plan:-}

# expect HOURS GIGABYTES PUBLISHED: what the next step is estimated to take, and the published figure it compares to.
expected=("" "" "")
expect() { expected=("$1" "$2" "$3"); }

# step WHAT OUTPUT INPUTS COMMAND...: run the command unless OUTPUT is there and not older than any of INPUTS.
# OUTPUT may be a pattern; INPUTS are paths, one a line.
step() {
  local what=$1 output=$2 inputs=$3
  shift 3
  if [ -n "$plan" ]; then
    add_to_plan "$what" "$output" "$(is_done "$output" "$inputs" && echo done)" "$@"
    return
  fi
  echo
  if is_done "$output" "$inputs"; then
    echo "== $what: done already ($output)"
    return
  fi
  echo "== $what"
  "$python" "$@"
}

# train NAME SCRIPT FLAGS...: start a run, or go on with it; the script knows one that is finished.
train() {
  local name=$1
  shift
  local where=(--checkpoints_path "$runs" --run_name "$name")
  if [ -n "$plan" ]; then
    local output=$runs/$name/trainer_0/ae.pt
    add_to_plan "train $name" "$output" "$(is_done "$output" "" && echo done)" "$@" "${where[@]}"
    return
  fi
  echo
  echo "== train $name"
  if [ -e "$runs/$name/config.yaml" ]; then
    "$python" "$1" "${where[@]}" --resume
  else
    "$python" "$@" "${where[@]}"
  fi
}

# weights NAME...: the files of weights of some runs, one a line, as INPUTS of a step.
weights() { printf '%s/trainer_0/ae.pt\n' "${@/#/$runs/}"; }

is_done() {
  local output input
  output=$(compgen -G "$1" | head -n 1)
  [ -n "$output" ] || return 1
  while read -r input; do
    [ -z "$input" ] || ! [ "$input" -nt "$output" ] || return 1
  done <<<"$2"
}

# Fields end with the unit separator and steps with the record separator, which no argument contains.
add_to_plan() {
  printf '%s\x1f' "$1" "$2" "$3" "${expected[@]}" "${@:4}" >>"$plan"
  printf '\x1e' >>"$plan"
  expected=("" "" "")
}
