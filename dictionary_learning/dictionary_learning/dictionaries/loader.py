"""How a dictionary reaches what loads it.

What loads dictionaries has to know every class of them, so no class may import it. The root of the package,
which is always imported first, hands it over instead.
"""

from collections.abc import Callable
from typing import Any

load: Callable[..., tuple[Any, dict[str, Any]]]
"""`dictionary_learning.utils.load_dictionary`; set by `dictionary_learning/__init__.py`."""
