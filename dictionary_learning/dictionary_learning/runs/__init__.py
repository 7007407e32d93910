"""Training runs: from a plan to a run folder that can be resumed, repeated and told apart.

In come a plan and batches; out comes a folder with every option, the metrics, the weights and the
last full state.

options         which run a command reads
plan            a run in one frozen object
loop            the steps
state           how far a run has come
beginning       first weights that are those of another dictionary
scaling         the norm factor and the inference thresholds: between raw activations and what trainers see
keeper          what is saved, and restored
log             what is recorded and told
turn            what the processes of a run agree on before each step
source          the batches, and a position among them
folder          the files of a run
provenance      where a run came from, without secrets
random_state    every global random generator, saved and set again
tracker         Weights & Biases
silent_groups   a warning where a group of latents falls silent
"""
