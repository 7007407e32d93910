"""An explorer: a page on which texts are read through a dictionary, and written on while it is steered.

    temporal-saes explore --run_name tsae
    python src/experiments/explorer.py --run_name tsae --port 9000 --explanation_path explanations.json

Open the address that is printed, and type a text. Its tokens are coloured by the latents that are pinned;
beside it are the strongest latents of a token, of a passage or of all of it, those of each split apart, and
how alike the tokens are. Pinned latents are steered with sliders: two continuations, plain and steered, are
shown as they are written. What is shown stands in the address, to come back to it.

The page is of this machine alone (127.0.0.1), and its address holds a token that nobody is answered without.
To read it from elsewhere, forward the same port: ssh -L 8765:127.0.0.1:8765 machine.

It needs temporal-saes[explore] (Starlette and uvicorn).
"""

import errno
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dictionary_learning.command.extras import need
from dictionary_learning.command.figures import method_of
from dictionary_learning.command.options import Parser
from dictionary_learning.command.progress import say
from dictionary_learning.command.rehearsal import about_to
from dictionary_learning.errors import UserError
from temporal_saes.experiment.command import command_line, read_options
from temporal_saes.experiment.subjects import LanguageModels, Subject, resolve
from temporal_saes.explorer.options import NOT_ASKED, ExplorerOptions
from temporal_saes.latents.explanations import find_explanations

if TYPE_CHECKING:
    import uvicorn

    from dictionary_learning.dictionaries.base import Dictionary
    from dictionary_learning.language_model import LanguageModel

HOST = "127.0.0.1"


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, ExplorerOptions, NOT_ASKED)


class Explorer(NamedTuple):
    """What is served, and where."""

    app: Any
    listening: socket.socket
    address: str


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until it is interrupted.

    Raises:
        UserError: as `explorer`.
    """
    with explorer(read_options(ExplorerOptions, parser(), argv)) as made:
        print(made.address, flush=True)
        say("open this address in a browser; Ctrl-C ends the explorer.")
        server(made).run(sockets=[made.listening])


@contextmanager
def explorer(options: ExplorerOptions) -> Iterator[Explorer]:
    """An explorer that is ready to be served, with its port.

    Raises:
        UserError: a mistake in the options, the run or the files, a port that is taken, or a language model
            that is not the dictionary's.
    """
    for package in ("starlette", "uvicorn"):
        need(package, "explorers")
    subject = resolve(options)
    if subject.trainer_folder is None:
        raise UserError(f"{subject.name} has no latents to look at: give the run of a dictionary.")

    from dictionary_learning.command.devices import SPREAD, find_device
    from dictionary_learning.language_model.model import DTYPES
    from dictionary_learning.language_model.sizes import check_fits
    from dictionary_learning.utils import load_dictionary
    from temporal_saes.explorer.about import find_site

    dictionary, config = load_dictionary(
        subject.trainer_folder, options.device, subject.checkpoint, threshold=subject.threshold
    )
    explanations = find_explanations(options.explanation_path, subject.trainer_folder, dictionary.dict_size)
    site = find_site(options.browser, subject, dictionary.dict_size)
    lm_device = options.lm_device or options.device
    if lm_device != SPREAD and subject.lm_dtype in DTYPES:
        check_fits(subject.model, subject.lm_dtype, find_device(lm_device))
    with _port(options.port) as listening:
        port = listening.getsockname()[1]
        about_to(f"load {subject.model} and serve a page at port {port}")

        from temporal_saes.explorer.about import Latents
        from temporal_saes.explorer.key import find_token
        from temporal_saes.explorer.page import explorer_page
        from temporal_saes.explorer.reader import Reader
        from temporal_saes.explorer.server import application
        from temporal_saes.explorer.turns import Turns
        from temporal_saes.explorer.writer import Writer

        lm = LanguageModels(lm_device).get(subject)
        _check_model(lm, subject, dictionary, config.get("buffer") or {})
        latents, turns = Latents(lm, dictionary, explanations, site), Turns()
        served = str(subject.weights_hash())
        facts = {"served": served, "latents": dictionary.dict_size, "splits": list(dictionary.splits())}
        about = _about(subject, dictionary)
        page = explorer_page(Path(subject.run_name).name, about, facts, site is not None)
        reader = Reader(lm, dictionary, subject, latents, turns)
        writer = Writer(lm, dictionary, subject, turns)
        token = find_token(new=options.new_token)
        app = application(page, served, reader, writer, latents, token, port)
        yield Explorer(app, listening, f"http://{HOST}:{port}/{token}/")


def server(made: Explorer) -> "uvicorn.Server":
    """What serves it on `made.listening`."""
    import uvicorn

    config = uvicorn.Config(
        made.app,
        log_level="warning",
        access_log=False,  # the address has the token in it
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


@contextmanager
def _port(port: int) -> Iterator[socket.socket]:
    """The port, for us alone from now on: nothing answers there yet.

    Raises:
        UserError: it is taken, or may not be used.
    """
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as listening:
        # a port that was used a moment ago is free
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen(128)
        except OSError as error:
            what = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise UserError(f"--port {port} {what}: give another, or 0 for any that is free.") from None
        yield listening


def _check_model(
    lm: "LanguageModel", subject: Subject, dictionary: "Dictionary", buffer: Mapping[str, Any]
) -> None:
    """Raise a UserError unless the dictionary was trained on this language model, as far as its run says.

    Args:
        buffer: what the run recorded of its activations; with fingerprints of the model if they were cached.
    """
    from dictionary_learning.dictionaries.base import check_width
    from dictionary_learning.language_model.fingerprint import fingerprints

    check_width(dictionary, lm)
    lm.check_place(subject.place)
    names = {"tokenizer_sha256": "tokenizer", "weights_sha256": "weights"}
    if buffer.get("lm_dtype", subject.lm_dtype) != subject.lm_dtype:
        del names["weights_sha256"]  # it is of the weights as they were loaded
    known = {name: buffer[name] for name in names if name in buffer}
    if not known:
        return
    found = fingerprints(lm, subject.layer)
    others = [names[name] for name, value in known.items() if value != found[name]]
    if others:
        own = buffer.get("model") or "language model"
        raise UserError(
            f"the dictionary of {subject.run_name} belongs to another {own} than this {subject.model} (its "
            f"{' and '.join(others)} differ): give the --model that it was trained on."
        )


def _about(subject: Subject, dictionary: "Dictionary") -> dict[str, str]:
    splits = ", ".join(f"{one.stop - one.start:,} {name}" for name, one in dictionary.splits().items())
    n = f"{dictionary.dict_size:,} latents"
    return {
        "dictionary": f"{method_of(subject.dict_class)}, {n}{f' ({splits})' if splits else ''}",
        "language model": f"{subject.model}, {subject.place}",
        "read": f"in contexts of {subject.context_length} tokens, as in training",
    }
