"""What a command line asks of a training run or of a cache, checked and turned into a plan.

In come flags, presets and what a run was begun with; out come options that go together, the activations that
they ask for, and a run or a cache that is written.

options         every option of a training run, once
presets         what a preset gives an architecture
request         the options that are asked for, of a new run or of one that goes on
data            the activations that a run is trained on
costs           what a run takes, by formulas
machines        how fast a machine is, assumed or timed
plan_command    what --plan prints
begin           the dictionary that a run begins with
train_command   what the three training commands do
grid            the file of a sweep: a grid over options, and its members
sweep           the language model once, and a run for each member
sweep_results   the members side by side
controls        the command that writes dictionaries without learning, to hold learnt ones against
control_runs    these, fitted and written as runs
cache_command   what cache_activations.py does
"""
