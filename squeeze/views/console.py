"""The console of tables and bars: text of others is text there, neither markup nor commands."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from squeeze.errors import printable

LOG_WIDTH = 100  # of a log, which has no width of its own


class PlainConsole(Console):
    """A console that escapes control characters and leaves brackets and colons alone."""

    def __init__(self, stderr: bool = False, log_width: int | None = None) -> None:
        stream = sys.stderr if stderr else sys.stdout
        super().__init__(
            stderr=stderr,
            width=None if stream.isatty() else log_width or LOG_WIDTH,
            markup=False,
            emoji=False,
            highlight=False,
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as text on one line."""
        return super().render_str(printable(text), **options)
