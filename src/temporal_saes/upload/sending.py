"""Sending a browser's latents through Neuronpedia's own client, a file at a time.

What has arrived is written to `sent.json` beside the files, so that a second attempt sends what is missing; a
file that has changed since is sent again.
"""

import contextlib
import io
import json
import os
from collections.abc import Callable
from typing import Any

from dictionary_learning.command import extras
from dictionary_learning.command.files import read_json, save_text
from dictionary_learning.command.progress import LoopProgress
from dictionary_learning.errors import UserError
from dictionary_learning.remote.connection import WAITS, patiently, said
from temporal_saes.upload.bodies import Bodies, Body
from temporal_saes.upload.options import UploadOptions

KEY = "NEURONPEDIA_API_KEY"
SENT = "sent.json"
SECONDS = 120  # to wait for an answer; the client itself waits for ever


def api_key() -> str:
    """The key from the environment.

    Raises:
        UserError: it is not set, or the client is not installed.
    """
    extras.need("neuronpedia", "uploads")
    key = os.environ.get(KEY)
    if not key:
        raise UserError(
            f"{KEY} is not set: make a key on your account's page there, and set it in the environment or "
            ".env."
        )
    return key


def already_sent(bodies: Bodies, url: str) -> list[Body]:
    """The files that have arrived at that address as they are now."""
    known = _journal(bodies).get(url, [])
    return [body for body in bodies.bodies if body.sha256 in known]


def send(bodies: Bodies, options: UploadOptions) -> int:
    """Send what has not arrived yet; returns how many files that were.

    Raises:
        UserError: no key, a set of sources that is another's, or a server that cannot be reached or refuses.
            What has arrived by then stays known.
    """
    client = _Client(options.address, api_key())
    missing = [body for body in bodies.bodies if body not in already_sent(bodies, options.address)]
    if not missing:
        return 0
    sources = client.sources(bodies, options)
    if bodies.source not in sources:
        raise UserError(
            f"the set {bodies.set_name} of {bodies.model} at {options.address} has no source {bodies.source} "
            f"(it has {', '.join(sources[:4])}): check the layer."
        )
    with LoopProgress(len(missing), f"upload to {options.address}", "files") as progress:
        for body in missing:
            with progress.piece(body.name):
                client.upload(bodies, body)
                _remember(bodies, options.address, body)
    return len(missing)


class _Client:
    """Neuronpedia's client at one address, without what it prints, and with an end to waiting."""

    def __init__(self, url: str, key: str) -> None:
        from neuronpedia.requests.base_request import NPRequest

        NPRequest.BASE_URL = f"{url}/api"
        self.url, self.key = url, key

    def sources(self, bodies: Bodies, options: UploadOptions) -> list[str]:
        """The sources of the set, which is made where it is not there."""
        from neuronpedia.requests.source_set_request import SourceSetRequest

        request = _with_an_end(SourceSetRequest)(self.key)
        found = self._ask(lambda: request.get(bodies.model, bodies.set_name), may_be_missing=True)
        if found is None:
            found = self._ask(
                lambda: request.new(bodies.set_name, bodies.model, options.description, options.source_url)
            )
        return [source.id for source in found.sources]

    def upload(self, bodies: Bodies, body: Body) -> None:
        from neuronpedia.requests.feature_request import FeatureRequest

        features = [_feature(bodies, one) for one in body.content["features"]]
        request = _with_an_end(FeatureRequest)(self.key)
        self._ask(lambda: request.upload_batch(bodies.model, bodies.source, features))

    def _ask(self, action: Callable[[], Any], may_be_missing: bool = False) -> Any:
        """What the server answers, asked again where it is busy or the connection drops.

        Raises:
            UserError: it refuses, or cannot be reached.
        """
        from neuronpedia.requests import base_request
        from requests.exceptions import HTTPError, RequestException

        def once() -> Any:
            """A refusal comes back as a value: what is raised is tried again."""
            busy = None
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    return action()
            except base_request.NPRateLimitError:
                busy = "it asks to wait"
            except base_request.NPUnauthorizedError:
                return UserError(f"{self.url} does not take the key in {KEY}: check it there.")
            except base_request.NPInvalidResponseError:
                return UserError(f"{self.url} answers with something else than a Neuronpedia: check --url.")
            except HTTPError as error:
                told = said(error)
                if told.startswith("Server error"):
                    busy = told
                elif told.startswith("Resource not found"):
                    missing = UserError(f"{self.url} has no such model: check its id there.")
                    return None if may_be_missing else missing
                else:
                    return UserError(f"{self.url} refuses: {told}.")
            raise ConnectionError(busy)

        try:
            answer = patiently(once, self.url, WAITS)
        except (ConnectionError, RequestException) as error:
            raise UserError(
                f"{self.url} cannot be reached ({said(error)}): run the same command again to send what is "
                "missing."
            ) from error
        if isinstance(answer, UserError):
            raise answer
        return answer


def _with_an_end(request: Any) -> Any:
    """A class of the client whose requests end after `SECONDS`."""

    class WithAnEnd(request):  # type: ignore[misc]
        def send_request(self, *args: Any, **words: Any) -> Any:
            return super().send_request(*args, timeout=SECONDS, **words)

    return WithAnEnd


def _feature(bodies: Bodies, one: dict[str, Any]) -> Any:
    """A latent as the client takes it."""
    from neuronpedia.np_activation import Activation
    from neuronpedia.np_explanation import Explanation
    from neuronpedia.np_feature import Feature, Logit

    place = {"modelId": bodies.model, "source": bodies.source, "index": one["index"]}
    return Feature(
        **place,
        density=one["density"],
        top_logits=[Logit(**logit) for logit in one["topLogits"]],
        bottom_logits=[Logit(**logit) for logit in one["bottomLogits"]],
        explanations=[
            Explanation(
                **place, text=told["text"], method=told["methodName"], explainer_model=told["modelName"]
            )
            for told in one["explanations"]
        ],
        activations=[Activation(**place, **activation) for activation in one["activations"]],
    )


def _journal(bodies: Bodies) -> dict[str, list[str]]:
    path = bodies.folder / SENT
    if not path.exists():
        return {}
    content = read_json(path, "what was sent")
    return content if isinstance(content, dict) else {}


def _remember(bodies: Bodies, url: str, body: Body) -> None:
    known = _journal(bodies)
    known.setdefault(url, []).append(body.sha256)
    save_text(bodies.folder / SENT, json.dumps(known, indent=1) + "\n")
