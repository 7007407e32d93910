"""A trainer from its options, as `trainSAE` takes them: whatever cannot be honoured is told by its name."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from dictionary_learning.errors import UserError

SET_AFTERWARDS = "dead_feature_threshold"  # tokens of silence after which a latent is dead


def make_trainer(config: Mapping[str, Any]) -> Any:
    """The trainer that a config asks for.

    Args:
        config: the class under "trainer", and its keyword arguments; "dead_feature_threshold" is set on
            every trainer.

    Raises:
        UserError: the class is missing, or an argument is unknown, missing or wrong.
    """
    options = dict(config)
    cls = options.pop("trainer", None)
    if not isinstance(cls, type):
        raise UserError(f"trainer is {cls!r}, and must be a class, such as BatchTopKTrainer.")
    dead_feature_threshold = options.pop(SET_AFTERWARDS, None)
    needed = arguments(cls)
    for name in options.keys() - needed.keys():
        near = difflib.get_close_matches(name, needed, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"choose among {', '.join(sorted(needed))}."
        raise UserError(f"a {cls.__name__} has no option {name}: {remedy}")
    missing = [name for name, is_needed in needed.items() if is_needed and name not in options]
    if missing:
        raise UserError(f"the config of a {cls.__name__} lacks {', '.join(missing)}: add it.")
    trainer = cls(**options)
    if dead_feature_threshold is not None:
        trainer.dead_feature_threshold = dead_feature_threshold
    return trainer


def arguments(cls: type) -> dict[str, bool]:
    """The keyword arguments of a trainer's class, each with whether it is needed.

    A class that takes any options hands those that it does not name on to its base class.
    """
    found: dict[str, bool] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        of_base = inspect.signature(vars(base)["__init__"])
        parameters = list(of_base.parameters.values())[1:]  # without self
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                found.setdefault(parameter.name, parameter.default is parameter.empty)
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found
