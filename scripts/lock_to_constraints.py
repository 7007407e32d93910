"""Write the versions that poetry.lock pins as constraints for pip and uv.

    python scripts/lock_to_constraints.py poetry.lock > constraints.txt

Needs nothing but Python 3.11, because it runs before anything is installed.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

EXTRA = "<extra>"


def constraints(lock: dict[str, Any]) -> list[str]:
    """One `name==version ; marker` for each package of the lock, in the order of their names.

    Poetry writes `extra == "dev"` into the marker of what an extra brings. In a constraint that condition is
    never true, so that the package would not be pinned: it is left out.
    """
    lines = []
    for package in lock["package"]:
        marker = package.get("markers", "")
        if isinstance(marker, dict):  # one marker a dependency group
            marker = marker.get("main", "")
        marker = re.sub(r'\(?extra == "[^"]+"( or extra == "[^"]+")*\)?', EXTRA, marker)
        marker = re.sub(f"{EXTRA} and | and {EXTRA}", "", marker)
        if EXTRA in marker:  # it stands alone, or in an `or`
            marker = ""
        pin = f"{package['name']}=={package['version']}"
        lines.append(f"{pin} ; {marker}" if marker else pin)
    return sorted(lines)


if __name__ == "__main__":
    for line in constraints(tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))):
        print(line)
