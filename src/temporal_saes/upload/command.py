"""Put a feature browser's latents on a Neuronpedia: the public one, or your own.

    temporal-saes browse --run_name demo --neuronpedia tsae-4k --neuronpedia_model smollm2-135m
    temporal-saes upload --browser runs/demo/trainer_0/dashboard/...           # what would be sent
    temporal-saes upload --browser runs/demo/trainer_0/dashboard/... --send

Latents go with their examples, logits, densities and explanations, 128 at a time, through Neuronpedia's own
client (pip install 'temporal-saes[neuronpedia]') with the key in NEURONPEDIA_API_KEY. The set of sources is
made where it is not there. What has arrived is remembered: the same command goes on where it was stopped, and
sends again what has changed. The language model has to be known to that Neuronpedia.
"""

from collections.abc import Sequence
from pathlib import Path

from dictionary_learning.command.options import Parser, add_options, build
from dictionary_learning.command.progress import n_of, say
from dictionary_learning.command.rehearsal import about_to
from temporal_saes.upload.bodies import read_bodies
from temporal_saes.upload.options import UploadOptions


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, UploadOptions)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Tell what would be sent, or send it.

    Raises:
        UserError: a mistake in the flags or the folder; with --send also no key, or a server that refuses.
    """
    options = build(UploadOptions, vars(parser().parse_args(argv)))
    bodies = read_bodies(Path(options.browser or ""))

    from temporal_saes.upload import sending

    n_sent = len(sending.already_sent(bodies, options.address))
    there = f", of which {n_sent} have arrived already" if n_sent else ""
    say(
        f"{bodies.source} of {bodies.model}: {n_of(bodies.n_latents, 'latent')}, {bodies.n_explained:,} with "
        f"an explanation, {bodies.n_bytes / 1e6:.1f} MB in {n_of(len(bodies.bodies), 'file')}{there}"
    )
    if not options.send:
        say(f"nothing was sent: add --send to put them on {options.address}")
        return
    sending.api_key()
    about_to(f"send latents to {options.address}")
    n = sending.send(bodies, options)
    say(f"sent: {n_of(n, 'file')}; see {options.address}/{bodies.model}/{bodies.source}")
