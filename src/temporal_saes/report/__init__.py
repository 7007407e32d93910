"""One page about a run: what was trained on what, curves, evaluation, probes, and latents on a text.

    python -m temporal_saes.report --run_name demo --compare demo-matryoshka demo-batch_top_k

Writes <run>/report.html, which holds all that it shows and loads nothing. What a run does not have
yet is left out, with the command that makes it. The coloured text is two held-out documents of
different domains, joined; --text or --text_file gives another.

command           the page from a command line
run_files         what a run has left
overview          what was trained on what
training_curves   metrics over steps
results           evaluation and probes
held_out          two held-out documents, joined
"""
