"""What a folder is read as. One rule for every command, and one line that says what it came to.

1. Hidden files and folders are left out (.git, .cache, the ._copies of macOS), at any depth.
2. Data files win over text files: a LICENSE.txt beside data is left out.
3. Of data files those of the split are read: by the data set's card where it names files, else by the names
   of folders and files, as the `datasets` library does; where no name says a split, all are "train".
4. Data files of two formats are refused, as nobody can say whether they are the same texts twice.
5. Where text files are alone, each is a document. Only whole folder names say a split there.
6. A folder with neither is left to the `datasets` library, if it is one of this machine.
"""

import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path, PurePath

from dictionary_learning.command.progress import n_of, say
from dictionary_learning.errors import UserError
from dictionary_learning.remote.path import AnyPath, RemotePath, path_of
from dictionary_learning.texts.encoding import read_text
from dictionary_learning.texts.hub_stream import hub_records, not_there
from dictionary_learning.texts.records import FORMATS, TEXT, Record, format_of, read_records

CARD = "README.md"
# JSON that describes a data set and is none.
_DESCRIPTIONS = {"config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json"}
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF_WORD = {word: split for split, words in _SPLITS.items() for word in words}
_SHARD = re.compile(r"data/([^/]+)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_BETWEEN_WORDS = re.compile(r"[-._ 0-9]+")
_HIDDEN = re.compile(r"(^|/)(\.|__)")
_N_NAMED = 5  # files that the line names
Splits = Mapping[str, Sequence[AnyPath]]


def local_records(
    path: str | AnyPath, *, split: str | None = None, usual_split: str = "train", subset: str | None = None
) -> Iterator[Record]:
    """The records of a file, or of a folder by the rule above; what is read of it is said once.

    Args:
        split: None takes `usual_split` where names say splits, and all files where none does.
        subset: a configuration that the data set's card names, or a folder in this one.

    Raises:
        UserError: there is no such file, or it is asked for a split or subset; nothing in the folder can be
            read, the split is not there, its files are of two formats; (while reading) as `read_records`.
    """
    path = path_of(path)
    if not path.is_dir():
        check_undivided(str(path), split, subset, usual_split)
        return read_records(path)
    if subset is not None and (path / subset).is_dir():
        path, subset = path / subset, None
    found = visible_files(path)
    data = [file for file in found if format_of(file) not in (None, TEXT) and file.name not in _DESCRIPTIONS]
    texts = [file for file in found if format_of(file) == TEXT]
    splits: Splits
    if data or subset is not None:
        of_card = _splits_of_card(path, subset)
        splits = data_splits(path, data) if of_card is None else of_card
    else:
        splits = _text_splits(path, texts)
    if splits.keys() == {""} and split is None:
        splits = {usual_split: splits[""]}
    splits = {name or "train": files for name, files in splits.items()}
    asked = split or usual_split
    if not splits or any(format_of(file) is None for file in splits.get(asked, ())):
        if isinstance(path, RemotePath):
            raise UserError(
                f"{path} holds nothing that can be read at a URL: give a folder of {', '.join(FORMATS)}, or "
                "copy it to this machine."
            )
        return hub_records(str(path), subset=subset, split=asked)
    if asked not in splits:
        raise UserError(
            f"{path} has no split {asked!r}: the names of its files give {_and(sorted(splits))}; choose one"
            " with --split, or give a file."
        )
    files = sorted(splits[asked])
    formats = Counter(format_of(file) for file in files)
    if len(formats) > 1:
        counts = _and([f"{n_of(n, 'file')} of {name}" for name, n in sorted(formats.items(), key=str)])
        raise UserError(f"{path} holds {counts}: give one of the files, or a folder with one format.")
    suffix = next(iter(formats))
    _say_once(_line(path, files, str(suffix), asked if len(splits) > 1 else None, found))
    if suffix == TEXT:
        return _documents(files)
    return chain.from_iterable(read_records(file) for file in files)


def check_undivided(
    name: str, split: str | None, subset: str | None = None, usual_split: str = "train"
) -> None:
    """Refuse a split or subset that is asked of what is read as a whole: a file, or the demo's texts.

    Args:
        usual_split: the one that is read where none is asked for, and so may be asked for.

    Raises:
        UserError: there is another one.
    """
    for flag, value, usual in (("split", split, usual_split), ("subset", subset, None)):
        if value not in (None, usual):
            raise UserError(
                f"{name} is read as a whole, and {flag} {value!r} would choose nothing: leave out --{flag}, "
                "or give the file that is meant."
            )


def visible_files(folder: AnyPath) -> list[AnyPath]:
    """All files below a folder, in order, without those that are hidden or in a hidden folder."""
    if isinstance(folder, RemotePath):
        found = folder.files()
        return sorted(found[name][0] for name in found if not _HIDDEN.search(name))
    files: list[AnyPath] = []
    seen: set[str] = set()  # a link may lead back to a folder above it
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        files += [Path(place, name) for name in names if not name.startswith((".", "__"))]
    return sorted(file for file in files if file.is_file())


def data_splits(folder: AnyPath, files: Sequence[AnyPath]) -> dict[str, list[AnyPath]]:
    """The split of data files by their names, as the `datasets` library has it; "" where no name says one.

    Once a name says a split, files whose names say none are in no split.
    """
    names = {file: _inside(file, folder).as_posix() for file in files}

    def of_shard(name: str) -> set[str]:
        shard = _SHARD.fullmatch(name)
        return {shard[1]} if shard else set()

    def of_folders(name: str) -> set[str]:
        return {split for part in name.split("/")[:-1] for split in _splits_in(part)}

    def of_file(name: str) -> set[str]:
        return _splits_in(name.rsplit("/", 1)[-1].rpartition(".")[0])

    for split_of in (of_shard, of_folders, of_file):
        found: dict[str, list[AnyPath]] = defaultdict(list)
        for file, name in names.items():
            for split in split_of(name):
                found[split].append(file)
        if found:
            return dict(found)
    return {"": list(files)} if files else {}


def _splits_in(name: str) -> set[str]:
    """The splits whose words are in a name."""
    return {_SPLIT_OF_WORD[word] for word in _BETWEEN_WORDS.split(name) if word in _SPLIT_OF_WORD}


def _text_splits(folder: AnyPath, files: Sequence[AnyPath]) -> dict[str, list[AnyPath]]:
    """The split of text files; their own names are titles, and say nothing."""
    found: dict[str, list[AnyPath]] = defaultdict(list)
    for file in files:
        words = [part for part in _inside(file, folder).parts[:-1] if part in _SPLIT_OF_WORD]
        found[_SPLIT_OF_WORD[words[0]] if words else ""].append(file)
    if len(found) > 1:
        found.pop("", None)
    return dict(found)


def _splits_of_card(folder: AnyPath, subset: str | None) -> Splits | None:
    """The files of each split, where the data set's card names files or a subset is asked for.

    None where there is no such card; empty where it says how to read them, which the readers here cannot.
    """
    if subset is None and not _card_names_files(folder):
        return None
    if isinstance(folder, RemotePath):
        return _splits_of_names(folder, subset)
    import datasets

    try:
        config = datasets.load_dataset_builder(str(folder), subset).config
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        raise UserError(not_there(str(folder), error)) from None
    said = getattr(config, "delimiter", None), getattr(config, "field", None), getattr(config, "sep", ",")
    if said != (None, None, ","):
        return {}
    return {str(split): [Path(file) for file in files] for split, files in (config.data_files or {}).items()}


def _splits_of_names(folder: RemotePath, subset: str | None) -> Splits | None:
    """As `_splits_of_card`, of a folder at a URL: the card is fetched, and empty files bear the names."""
    found = folder.files()
    with tempfile.TemporaryDirectory() as made:
        root = Path(made).resolve()
        for name in found:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(found[name][0].read_bytes() if name == CARD else b"")
        try:
            splits = _splits_of_card(root, subset)
        except UserError as error:
            raise UserError(str(error).replace(str(root), str(folder))) from None
        if splits is None:
            return None
        return {
            split: [found[Path(file).relative_to(root).as_posix()][0] for file in files]  # type: ignore[arg-type]
            for split, files in splits.items()
        }


def _card_names_files(folder: AnyPath) -> bool:
    """Whether the head of the data set's card says which files it has."""
    import yaml

    try:
        head = re.match(r"---\n(.*?)\n---", read_text(folder / CARD), re.DOTALL)
        configs = (yaml.safe_load(head[1]) if head else {}).get("configs")
    except (UserError, yaml.YAMLError, AttributeError):
        return False
    return isinstance(configs, list) and any(
        isinstance(one, dict) and one.keys() & {"data_files", "data_dir"} for one in configs
    )


def _inside(file: AnyPath, folder: AnyPath) -> PurePath:
    """The path of a file from the folder that it is in."""
    return file.relative_to(folder)  # type: ignore[arg-type]


def _documents(files: Sequence[AnyPath]) -> Iterator[Record]:
    """One record a file; an empty one has an empty text and is left out like any other."""
    for file in files:
        yield {"text": read_text(file), "title": file.stem}


# --- the line that says it ---


def _line(
    folder: AnyPath, files: Sequence[AnyPath], suffix: str, split: str | None, found: Sequence[AnyPath]
) -> str:
    """`corpus is read as 2 files of .jsonl (split train); left out: LICENSE.txt`."""
    said = f"{folder} is read as {n_of(len(files), 'file')} of {suffix}"
    if suffix == TEXT:
        said += ", a document each" if len(files) > 1 else ", one document"
    if split is not None:
        said += f" (split {split})"
    others = [_inside(file, folder).as_posix() for file in found if file not in set(files)]
    if others:
        more = f" and {len(others) - _N_NAMED:,} more" if len(others) > _N_NAMED else ""
        said += f"; left out: {', '.join(others[:_N_NAMED])}{more}"
    return said


@cache
def _say_once(line: str) -> None:
    """A run opens its texts again and again."""
    say(line)


def _and(words: Sequence[str]) -> str:
    return " and ".join(words)
