"""Where something is proven: test functions named by file, read from the sources without running them."""

import ast
from collections.abc import Iterable
from functools import lru_cache

from tests.processes import ROOT


def missing_proofs(proofs: Iterable[str]) -> list[str]:
    """Those of `path::test` that name no test function of the repository."""
    return [proof for proof in proofs if not _is_a_test(*proof.split("::"))]


def _is_a_test(path: str, name: str) -> bool:
    return name.startswith("test_") and name in _functions(path)


@lru_cache
def _functions(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))
