"""One page about a run: what was trained on what, curves, evaluation, probes, and latents on a text.

    python -m temporal_saes.report --run_name demo --compare demo-matryoshka demo-batch_top_k

Writes <run>/report.html, which holds all that it shows and loads nothing. What a run does not have
yet is left out, with the command that makes it. The coloured text is two held-out documents of
different domains, joined; --text or --text_file gives another.
"""

import shlex
import sys
from pathlib import Path

from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.options import Parser, add_options, build
from dictionary_learning.command.progress import say
from dictionary_learning.command.secrets import scrub
from dictionary_learning.errors import UserError
from dictionary_learning.texts.encoding import read_text
from temporal_saes.report.options import ReportOptions

COMMAND = "python -m temporal_saes.report"


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__, prog=COMMAND)
    add_options(made, ReportOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Write the page.

    Raises:
        UserError: a run is not there or damaged, the text cannot be read, the file cannot be written.
    """
    words = sys.argv[1:] if argv is None else argv
    options = build(ReportOptions, vars(parser().parse_args(words)))

    from dictionary_learning.command.devices import find_device
    from temporal_saes.report.page import report
    from temporal_saes.report.run_files import RunFiles

    text = given_text(options)
    find_device(options.device)
    names = [str(options.run_name), *options.compare]
    runs = [RunFiles.read(options.checkpoints_path, name, options.trainer) for name in names]
    output = Path(options.output) if options.output else runs[0].folder / "report.html"
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: give the name of a file in it.")
    check_writable(output.parent, "--output")
    save_text(output, report(runs, options, text, shlex.join(scrub([*COMMAND.split(), *words]))))
    say(f"written: {output}")


def given_text(options: ReportOptions) -> str | None:
    """The text of --text or --text_file; None if neither is given.

    Raises:
        UserError: there is no such file, or nothing in it that can be read.
    """
    text = options.text
    if options.text_file is not None:
        text = read_text(options.text_file, f"--text_file {options.text_file}")
    if text is not None and not text.strip():
        raise UserError("the text to colour is empty: give one with words in it.")
    return text
