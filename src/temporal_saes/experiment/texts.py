"""The texts that the flags describe: a labelled data set, or passages joined into texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dictionary_learning.errors import UserError
from dictionary_learning.jobs.data import chat_of
from temporal_saes.experiment.options import ChatOptions, ExperimentOptions, JoinedTextOptions
from temporal_saes.experiment.subjects import Subject, check_one_model
from temporal_saes.labelled.data import LabelledText, load_labelled
from temporal_saes.labelled.passages import Joined, draw_joined, fits, join, passages_of_files

if TYPE_CHECKING:
    from dictionary_learning.language_model import LanguageModel
    from dictionary_learning.texts.chat import ChatTemplate


def labelled_texts(
    options: ExperimentOptions,
    max_texts: int | None = None,
    *,
    needs_label: bool = True,
    chat: "ChatTemplate | None" = None,
) -> list[LabelledText]:
    """The data set that the flags describe, `max_texts` of it at most.

    Args:
        needs_label: False for experiments that do not tell classes apart, see `load_labelled`.
        chat: as `chat_template` gives it.

    Raises:
        UserError: as `load_labelled`.
    """
    return load_labelled(
        options.dataset,
        data_path=options.data_path,
        text_field=options.text_field,
        label_field=options.label_field,
        categories=options.categories,
        split=options.split,
        max_texts=max_texts,
        max_records=options.max_records,
        seed=options.seed,
        needs_label=needs_label,
        chat=chat,
    )


def chat_template(options: ChatOptions, subjects: Sequence[Subject]) -> "ChatTemplate | None":
    """The chat template through which all subjects read conversations; None where texts are no conversations.

    Raises:
        UserError: the subjects are of several language models, or theirs has no chat template.
    """
    if options.chat_template:
        check_one_model(subjects)
    return chat_of(subjects[0].model, options.chat_template, options.roles)


def identities(texts: Sequence[LabelledText]) -> list[str]:
    """What stands for labelled texts where a result says what was read."""
    # an id is of the messages alone, whatever a template writes around them
    said = ["" if text.turns is None else f"{text.text}{text.turns}" for text in texts]
    return [f"{text.id:016x}{text.label}{more}" for text, more in zip(texts, said, strict=True)]


def joined_identities(joined: Sequence[Joined], given: Joined | None) -> list[str]:
    """What stands for joined texts: of given passages also where they begin, as one text has many cuts.

    Where drawn ones begin, their text decides.
    """
    return [*(one.text for one in joined), *([] if given is None else [str(given.starts)])]


def given_passages(options: JoinedTextOptions) -> Joined | None:
    """The files of `--passages` as one text, whole; None where passages are to be drawn.

    Raises:
        UserError: as `passages_of_files`.
    """
    return None if options.passages is None else join(passages_of_files(options.passages))


def joined_texts(
    options: JoinedTextOptions,
    given: Joined | None,
    documents: Sequence[LabelledText],
    lm: "LanguageModel",
    context_length: int,
    room: int | None = None,
) -> list[Joined]:
    """The given text, or `--n_texts` that are drawn.

    Args:
        room: tokens of a drawn text, if not the whole context.

    Raises:
        UserError: the given passages are too long together, or as `draw_joined`.
    """
    if given is None:
        return draw_joined(
            documents,
            lm,
            options.n_texts,
            n_passages=options.n_passages,
            context_length=room or context_length,
            seed=options.seed,
        )
    if not fits(given, lm, context_length):
        raise UserError(
            f"the {len(given.passages)} files of --passages have more than {context_length} tokens "
            f"together: shorten them or give a longer --context_length."
        )
    return [given]
