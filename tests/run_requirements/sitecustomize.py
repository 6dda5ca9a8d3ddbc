"""Put on PYTHONPATH, it hides from a program what `requirements.txt` does not install.

The tests' own environment has more than a user's, who alone would miss a package that only the tests bring.
"""

import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

PINNED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
OF_EVERY_ENVIRONMENT = frozenset({"pip", "setuptools"})


class Hidden(MetaPathFinder):
    """Refuses what a user's environment does not have."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Leave everything else to the finders behind this one. Raises ModuleNotFoundError."""
        if fullname in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def hidden_modules() -> frozenset[str]:
    """Top-level modules that only packages beyond `requirements.txt` bring."""
    text = (Path(__file__).parent.parent.parent / "requirements.txt").read_text(encoding="utf-8")
    kept = {normal(name) for name in PINNED.findall(text)} | OF_EVERY_ENVIRONMENT
    brought = packages_distributions().items()
    return frozenset(name for name, by in brought if not kept & {normal(one) for one in by})


sys.meta_path.insert(0, Hidden(hidden_modules()))
