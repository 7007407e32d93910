"""The files of a browser that are sent, as the browser wrote them."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.command.files import read_json
from dictionary_learning.errors import UserError


class Body(NamedTuple):
    """One file with at most 128 latents."""

    name: str
    content: Mapping[str, Any]
    sha256: str
    n_bytes: int


class Bodies(NamedTuple):
    """All that is sent of one browser."""

    folder: Path
    bodies: list[Body]

    @property
    def model(self) -> str:
        return str(self.bodies[0].content["modelId"])

    @property
    def source(self) -> str:
        return str(self.bodies[0].content["source"])

    @property
    def set_name(self) -> str:
        """The source without its layer."""
        return self.source.partition("-")[2]

    @property
    def n_latents(self) -> int:
        return sum(len(body.content["features"]) for body in self.bodies)

    @property
    def n_explained(self) -> int:
        return sum(bool(one["explanations"]) for body in self.bodies for one in body.content["features"])

    @property
    def n_bytes(self) -> int:
        return sum(body.n_bytes for body in self.bodies)


def read_bodies(browser: Path) -> Bodies:
    """The files of a browser's folder, in the order of their numbers.

    Raises:
        UserError: it is no browser's folder, was made without --neuronpedia, or a file is damaged.
    """
    folder = browser / "neuronpedia"
    if not (browser / "index.html").is_file():
        raise UserError(f"{browser} is no folder of a feature browser: make one with temporal-saes browse.")
    paths = sorted((folder / "upload").glob("features-*.json"), key=_number)
    if not paths:
        raise UserError(
            f"{browser} was made without files for Neuronpedia: make it again with --neuronpedia NAME "
            "--neuronpedia_model ID."
        )
    bodies = []
    for path in paths:
        content = read_json(path, "a part of an upload")
        if not isinstance(content, dict) or not {"modelId", "source", "features"} <= content.keys():
            raise UserError(f"{path} is no part of an upload: make the browser again.")
        text = json.dumps(content, sort_keys=True, ensure_ascii=False).encode()
        bodies.append(Body(path.name, content, hashlib.sha256(text).hexdigest(), len(text)))
    return Bodies(folder, bodies)


def _number(path: Path) -> int:
    found = re.fullmatch(r"features-(\d+)\.json", path.name)
    return int(found[1]) if found else -1
