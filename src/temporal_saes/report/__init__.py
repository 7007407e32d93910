"""One page about a run: what was trained on what, curves, evaluation, probes, and latents on a text.

In come the files that a run, its evaluation and its probes left; out comes one page that loads nothing.

command           the page from the command line
options           what can be asked
run_files         what a run left on disk
page              the page, put together of:
overview          what was trained on what
training_curves   losses and the like over the training
results           evaluation and probes
latent_names      what latents are held over
coloured_text     a text coloured by latents
held_out          documents that the training did not see
"""
