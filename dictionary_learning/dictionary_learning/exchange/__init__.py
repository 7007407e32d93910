"""Dictionaries in every format that is read or written: runs, released folders, SAELens, SAEBench, the hub.

In comes a path or a name on the hub; out comes a dictionary that works on raw activations, with a config in
the form of a run's. Or the other way round, with what a format rounds or loses told, or refused.

loading              finding and loading whatever lies at a path
beginning            the dictionary that a run begins with
run_folder           a dictionary as a run of the dictionary_learning library
released_folder      the layout in which TemporalSAEs are released
single_file          a dictionary in a file by itself, of temp_xc or Qwen-Scope
export_temporal_sae  that layout from a run, as a command
saelens/             SAELens folders
saebench             a dictionary under SAEBench
sae_probes           a dictionary and its model's activations for the probes of sae-probes
lm_eval              latents for a model that lm-eval steers
thresholds           inference thresholds beside the weights: trained, calibrated, or the top-k
names                what places in a model are called elsewhere
fidelity             what a format rounds or loses
download             a dictionary's files from the Hugging Face hub
hub                  a dictionary pushed there, and loaded from there
model_card           the page of a dictionary there
"""
