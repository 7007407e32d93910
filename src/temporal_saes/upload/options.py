"""What an upload can be asked."""

import re
from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError

PUBLIC = "https://neuronpedia.org"
_URL = re.compile(r"https?://[^/\s@?#]+")
_LOCAL = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


@dataclass(frozen=True)
class UploadOptions:
    """What an upload can be asked.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    browser: str | None = option(None, "folder of a feature browser that was made with --neuronpedia")
    send: bool = option(False, "send it; without this, only what would be sent is told")
    url: str = option(
        PUBLIC, "of the Neuronpedia: the public one, or your own, such as http://localhost:3000"
    )
    description: str | None = option(None, "of the set of sources, where it is made")
    source_url: str | None = option(None, "page that the set of sources links to, where it is made")

    @property
    def address(self) -> str:
        """`url` without a slash at its end."""
        return self.url.rstrip("/")

    def __post_init__(self) -> None:
        if self.browser is None:
            raise UserError("--browser is missing: give the folder of a feature browser.")
        if not _URL.fullmatch(self.address):
            raise UserError(
                f"--url {self.url} is no address of a server: give one such as https://host without a path, "
                "name or password."
            )
        if self.url.startswith("http://") and not _LOCAL.fullmatch(self.address):
            raise UserError(f"--url {self.url} would send your key unencrypted: give an https:// address.")
