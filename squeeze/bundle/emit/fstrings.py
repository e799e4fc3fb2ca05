"""f-strings as the oldest supported Python reads them, whichever Python bundles.

python-minifier writes them for the Python that it runs on. From 3.12 on (PEP 701) that means quotes
inside the braces which 3.11 takes for the end of the string: the file would run on the newer ones only,
and its bytes would depend on who made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def old_quotes(f_string: ModuleType) -> Iterator[None]:
    """Have python-minifier write f-strings without PEP 701 meanwhile, save those that need it.

    f_string: its module of that name.
    """
    outermost, ways = f_string.OuterFString, f_string.FString.candidates

    def oldest(string: Any) -> Iterable[str]:
        newest, string.pep701 = string.pep701, False
        old = list(ways(string))
        string.pep701 = newest
        return ways(string) if newest and not old else old

    outermost.candidates = oldest
    try:
        yield
    finally:
        del outermost.candidates
