"""Public names that are imported when they are first used, so that importing a package costs nothing."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def names(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package, as its `__init__.py` defines them.

    A name must not be that of a module in the package: that module would stand in its place once imported.

    Args:
        package: its `__name__`.
        modules: the public names by the module, inside the package, that defines them.
    """
    module_of = {name: module for module, own in modules.items() for name in own}

    def find(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, value)  # found at once from now on
        return value

    def all_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of})

    return find, all_names
