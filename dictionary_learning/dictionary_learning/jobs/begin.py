"""What `--init_from` asks of a run: the dictionary that it begins with, checked before anything is slow."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dictionary_learning.command.processes import check_alike
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.trainers.architectures import GROUPED

if TYPE_CHECKING:
    from dictionary_learning.runs.beginning import Beginning

Load = Callable[[str], "Beginning"]
"""From a path or a name to the dictionary there; the scripts hand it in: loading stands above this room."""


def begin_with(options: TrainOptions, load: Load) -> "Callable[[], Beginning] | None":
    """Gives what the run begins with; None where it begins anew.

    A run that goes on needs it only where it ended before its first save, and reads it only then.

    Raises:
        UserError: there is no such dictionary, or the run cannot begin with it.
    """
    if options.init_from is None:
        return None
    path = options.init_from

    def read() -> "Beginning":
        found = load(path)
        found.check(options)
        return found

    if options.resume:
        return read
    beginning = read()
    check_alike({"weights of --init_from": (beginning.facts or {}).get("weights_sha256")})
    if options.activations is None:
        from dictionary_learning.language_model.sizes import read_sizes

        beginning.check_width(read_sizes(options.model).d_model)
    return lambda: beginning


def told(options: TrainOptions, d_model: int, begins: "Callable[[], Beginning] | None") -> Mapping[str, Any]:
    """What config.yaml says of the first weights, once the width of the activations is known to fit.

    Raises:
        UserError: they have another width.
    """
    if begins is None or options.resume:
        return {}
    from dictionary_learning.trainers.matryoshka_batch_top_k import sizes_of_groups

    beginning = begins()
    beginning.check_width(d_model)
    n = options.latents(d_model)
    sizes = sizes_of_groups(options.group_fractions, n) if options.arch in GROUPED else [n]
    return {"init_from": {**(beginning.facts or {}), "groups": beginning.groups(sizes)}}
