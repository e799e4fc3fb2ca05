"""Prints of a stranger's code on standard error: standard output is for the command's own result."""

from __future__ import annotations

import contextlib
import sys

from squeeze.subject.joined import Joined

printing_aside = Joined(lambda: contextlib.redirect_stdout(sys.stderr))
