"""Two people at the same time: one begins while what the other changes is not yet committed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import TypeVar

from django.db import connection, transaction

Told = TypeVar("Told")

UNTIL_IT_WAITS = 0.3
"""For the row of the first; come later, the second has nothing to wait for, and the order is the same."""


def meanwhile(first: Callable[[], object], second: Callable[[], Told]) -> Told:
    """Do `first` in a transaction and `second` from a connection of its own meanwhile; what that returned."""

    def from_elsewhere() -> Told:
        try:
            return second()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as elsewhere:
        with transaction.atomic():
            first()
            waiting = elsewhere.submit(from_elsewhere)
            sleep(UNTIL_IT_WAITS)
        return waiting.result()
