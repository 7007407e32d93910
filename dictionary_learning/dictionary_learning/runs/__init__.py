"""Training runs: from options to a run folder that can be resumed, repeated and told apart.

In come checked options and batches; out comes a folder with every option, the metrics, the weights and the
last full state.

options         every option of a training run, once
presets         what a preset gives an architecture
request         the options that a command line asks for, of a new run or of one that goes on
data            the activations that a run is trained on
train_command   what the three training commands do
cache_command   what cache_activations.py does
plan            a run in one frozen object
loop            the steps
state           how far a run has come
scaling         the norm factor and the inference thresholds: between raw activations and what trainers see
keeper          what is saved, and restored
log             what is recorded and told
source          the batches, and a position among them
folder          the files of a run
provenance      where a run came from, without secrets
random_state    every global random generator, saved and set again
tracker         Weights & Biases
silent_groups   a warning where a group of latents falls silent
"""
