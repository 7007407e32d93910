#!/usr/bin/env bash
# Steps that are done once. Sourced by demo.sh and, through experiments.sh, by all_methods.sh and reproduce_*.sh,
# which set $runs before the first step.
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
  run "$python" "$@"
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
    run "$python" "$1" "${where[@]}" --resume
  else
    run "$python" "$@" "${where[@]}"
  fi
}

# run COMMAND...: do it in the foreground. A signal that this script alone gets, as by kill, is passed on: bash would
# leave the command behind, or hear of the signal only when it has ended.
running='' is_beside=''
run() {
  local code=0
  if [ -n "$is_beside" ]; then
    "$@"
    return
  fi
  hear_signals
  set -m
  "$@" &
  set +m
  running=$!
  wait "$running" || code=$?
  running=''
  return $code
}

hear_signals() {
  trap 'stop_all 130' INT
  trap 'stop_all 143' TERM
  trap 'stop_all 129' HUP # a terminal that is closed does not tell process groups of ours
}

# beside NAME COMMAND...: start COMMAND beside others, with half of the cores; its lines begin with NAME.
# A machine with one core does it at once, as does a plan.
beside_names=() beside_groups=()
beside() {
  local name=$1 cores
  shift
  cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
  if [ -n "$plan" ] || [ "$cores" -lt 2 ]; then
    "$@"
    return
  fi
  hear_signals
  set -m # a process group for each, so that all that it started can be asked to stop
  (
    trap : INT TERM # its command is asked, too, and waited for
    is_beside=yes
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / 2))}
    { trap : INT TERM && "$@"; } 2>&1 | headed "$name"
  ) &
  set +m
  beside_names+=("$name") beside_groups+=($!)
}

headed() {
  local line
  trap '' INT TERM # what a command says while it stops is shown
  while IFS= read -r line || [ -n "$line" ]; do
    [ -z "$line" ] || printf '%s | %s\n' "$1" "$line"
  done
}

# until_done NAME: wait for one of them; when it failed the others still come to their end, and that is the end.
until_done() {
  local i failed=0
  for i in ${beside_groups[@]+"${!beside_groups[@]}"}; do
    [ "${beside_names[$i]}" != "$1" ] || end_of "$i" || failed=$?
  done
  [ $failed -eq 0 ] || {
    until_all_are_done || true
    return $failed
  }
}

# until_all_are_done: wait for what runs beside; when one failed the others still come to their end.
until_all_are_done() {
  local i failed=0
  for i in ${beside_groups[@]+"${!beside_groups[@]}"}; do
    end_of "$i" || failed=$?
  done
  trap - INT TERM HUP
  return $failed
}

# end_of NUMBER: wait for one of them, and say so when it failed.
end_of() {
  local name=${beside_names[$1]} code=0
  wait "${beside_groups[$1]}" || code=$?
  unset "beside_names[$1]" "beside_groups[$1]"
  [ $code -eq 0 ] || echo "error: $name ended with exit code $code: its last lines above say why." >&2
  return $code
}

# Commands that were asked to stop save first: they are waited for. One that is suspended, as by asking the terminal
# for something from the background, hears nothing until it goes on.
stop_all() {
  local group
  trap '' INT TERM HUP
  for group in $running ${beside_groups[@]+"${beside_groups[@]}"}; do
    kill -TERM -- "-$group" 2>/dev/null || true
    kill -CONT -- "-$group" 2>/dev/null || true
  done
  wait
  exit "$1"
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
