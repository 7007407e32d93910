"""Training runs: from options to a run folder that can be resumed, repeated and told apart.

In come checked options and batches; out comes a folder with every option, the metrics, the weights and the
last full state.

options         every option of a training run, once
train_command   what the three training commands do
loop            the steps, and what is saved and logged between them
source          the batches, and a position among them
folder          the files of a run
config_file     the config.json of a trainer in it, whoever wrote it
provenance      where a run came from, without secrets
random_state    every global random generator, saved and set again
tracker         Weights & Biases
silent_groups   a warning where a group of latents falls silent
"""
