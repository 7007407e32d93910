"""Write a trained dictionary in the format of another tool, and say what that format does not keep.

    python -m dictionary_learning.convert --from runs/demo/tsae --to saelens --output exchange/tsae

What is read is told by its files: a run, a trainer's folder of the dictionary_learning library, a SAELens
folder, a released TemporalSAE, or one of these on the Hugging Face hub.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.lock import is_ours_alone, locked, remove_leftovers
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError

FORMATS = {
    "saelens": "cfg.json and sae_weights.safetensors, as SAELens 6 saves and loads them",
    "dictionary_learning": "config.json and ae.pt, as the dictionary_learning library loads them",
    "run": "config.json and ae.pt, as the trainings here leave them",
    "released": "conf.yaml and latest_ckpt.safetensors, the layout of the released TemporalSAEs",
    "lm_eval": "steer.pt, which lm-eval's --model steered adds to a language model; with --steer",
    "sae_probes": "a SAELens folder and the activations that run_sae_evals of sae-probes reads; with --sets",
    "hub": "the folder as it is, with a model card, on the Hugging Face hub",
}


@dataclass(frozen=True)
class ConvertOptions:
    """What is read, and what is written.

    Raises:
        UserError: a flag is missing, or one that the format does not have.
    """

    source: str | None = option(
        None, "the dictionary: a folder, or user/repository/folder on the hub", spellings=("from",)
    )
    to: str | None = option(None, "the format to write", choices=tuple(FORMATS))
    output: str | None = option(
        None, "folder to write, empty or new; for hub, the repository user/name, or user/name/folder in it"
    )
    checkpoint: str | None = option(None, "another file than ae.pt, such as checkpoints/ae_1000.pt")
    revision: str | None = option(None, "branch, tag or commit of --from, where that is on the hub")
    allow_loss: bool = option(False, "write also what the format cannot keep exactly; it is told")
    private: bool = option(False, "for hub: a repository that only you see", group="hub")
    branch: str | None = option(None, "for hub: branch to write to (default: main)", group="hub")
    overwrite: bool = option(False, "for hub: replace the dictionary that is there", group="hub")
    licence: str = option("mit", "for hub: the licence of the weights", group="hub", spellings=("license",))

    steer: tuple[str, ...] = option(
        (), "for lm_eval: latents and how far to push each, such as 5=30 9=-4", group="lm_eval"
    )

    sets: tuple[str, ...] = option(
        (), "for sae_probes: binary data sets of the package, such as 100_news_fake", group="sae_probes"
    )

    def __post_init__(self) -> None:
        for flag, given, of in (("steer", self.steer, "lm_eval"), ("sets", self.sets, "sae_probes")):
            if given and self.to != of:
                raise UserError(
                    f"--{flag} is for --to {of}, and this is --to {self.to}: leave one of them out."
                )
        if not self.source or not self.to or not self.output:
            raise UserError(
                "--from, --to and --output are needed: what is read, the format, and where it goes."
            )


def parser() -> Parser:
    formats = "\n".join(f"  {name:20} {text}" for name, text in FORMATS.items())
    made = Parser(description=f"{__doc__}\nformats of --to:\n{formats}\n")
    add_options(made, ConvertOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    options = build(ConvertOptions, vars(parser().parse_args(argv)))
    assert options.source is not None
    assert options.output is not None
    if options.to == "hub":
        from dictionary_learning.exchange import hub

        user, name, *inside = (*options.output.strip("/").split("/"), "")
        url = hub.push_to_hub(
            options.source,
            f"{user}/{name}",
            folder="/".join(inside).strip("/"),
            revision=options.branch,
            private=options.private,
            licence=options.licence,
            overwrite=options.overwrite,
        )
        say(f"written: {url}")
        return
    output = Path(options.output)
    check_empty(output)

    from dictionary_learning.exchange.fidelity import Fidelity
    from dictionary_learning.exchange.loading import trainer_folder
    from dictionary_learning.utils import load_dictionary

    fidelity = Fidelity(options.allow_loss)
    folder = trainer_folder(options.source, options.revision)
    dictionary, config = load_dictionary(folder, "cpu", options.checkpoint, fidelity=fidelity)
    with locked(output):
        remove_leftovers(output)
        _writer(options)(dictionary, config, output, fidelity)
    for remark in fidelity.remarks:
        say(f"note: {remark}")
    for loss in fidelity.losses:
        say(f"lost: {loss}")
    files = " and ".join(str(path) for path in sorted(output.iterdir()))
    say(f"written: {files} ({type(dictionary).__name__}, {dictionary.dict_size:,} latents)")


def check_empty(output: Path) -> None:
    """Raise a UserError unless `output` is an empty folder, or none yet, that can be written to.

    Parts of files that a killed command left do not count.
    """
    check_writable(output, "--output")
    if not is_ours_alone(output):
        raise UserError(f"{output} is not empty: choose another --output, or remove what is in it.")


def _writer(options: ConvertOptions) -> Callable[..., None]:
    from dictionary_learning.exchange import lm_eval, run_folder, sae_probes, saelens

    writers: dict[str, Callable[..., None]] = {
        "saelens": saelens.write,
        "dictionary_learning": run_folder.write_for_library,
        "run": lambda dictionary, config, folder, _: run_folder.write(dictionary, config, folder),
        "released": _write_released,
        "lm_eval": partial(lm_eval.write, words=options.steer),
        "sae_probes": partial(sae_probes.write, sets=options.sets),
    }
    return writers[options.to or ""]


def _write_released(dictionary: Any, config: Any, folder: Path, _: Any) -> None:
    from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
    from dictionary_learning.exchange import released_folder

    if not isinstance(dictionary, TemporalSAE):
        raise UserError(
            f"only a TemporalSAE has the released layout, and this is a {type(dictionary).__name__}: choose "
            "--to saelens or --to dictionary_learning."
        )
    released_folder.save(dictionary, folder, config)


if __name__ == "__main__":
    cli.run(main)
