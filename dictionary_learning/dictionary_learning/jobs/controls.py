"""Controls for predicted and novel parts: what the mean and the earlier tokens say without any learning.

    temporal-saes controls --activations runs/demo/activations --checkpoints_path runs/demo
    python src/experiments/temporal_geometry.py --checkpoints_path runs/demo \\
        --compare tfa:0 running_mean:0 recall_centred:0 baseline_model

Writes runs that every experiment and evaluation reads like those of a TemporalSAE: chunk 0 is the predicted
part, chunk 1 all the rest. corpus_mean predicts the mean activation of the training texts, running_mean the
mean of the earlier tokens, recall the same weighted by their cosine with the token, at the sharpness that
fits the training texts best. `_centred` behind a name says that the corpus mean was taken away first and
belongs to neither part, as the bias of a TemporalSAE that starts at the mean (--bias); `_fitted` that each
prediction was scaled to what fits its token best, as a TemporalSAE's is (--fit_length).
"""

from dictionary_learning.activations.options import without_settled
from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser, add_options, build, preset_names
from dictionary_learning.command.processes import n_processes
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.options import ControlOptions
from dictionary_learning.jobs.presets import preset_values
from dictionary_learning.jobs.request import options_of_cache


def parser() -> Parser:
    made = Parser(description=__doc__)
    made.add_argument("--config", choices=preset_names(), help="preset whose values the other flags override")
    add_options(made, ControlOptions, ("normalize", "overlap"))
    return made


def main(argv: list[str] | None = None) -> None:
    typed = vars(parser().parse_args(argv))
    config = typed.pop("config")
    if n_processes() > 1:
        raise UserError("controls are written by one process: start the command without torchrun.")
    if config is None and not {"model", "activations"} & typed.keys():
        raise UserError("nothing says which activations: give --activations with a cache, or --config demo.")
    preset = preset_values(config, "attention") if config is not None else {}
    of_cache = options_of_cache(typed)
    options = build(ControlOptions, preset, of_cache, without_settled(typed, of_cache)).settled()

    from dictionary_learning.jobs import control_runs

    for run in control_runs.write(options):
        print(run.path)


if __name__ == "__main__":
    cli.run(main)
