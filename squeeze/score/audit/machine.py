"""Reasons why a submission did not start that lie with the auditor's machine and not with it."""

from __future__ import annotations

import platform
import re

MODULE = re.compile(
    r"No module named ['\"]([\w.]{1,80})['\"]|imports ([\w.]{1,80}), which is not installed"
)
# What the last words of a process that was not given what it needs look like.
LACKS = {
    r"CUDA|NVIDIA driver|nvidia-smi|\bNCCL\b|\bGPU\b|cuDNN|libcuda": "CUDA device",
    r"no kernel image|Triton|triton|flash_attn": "kernel that it needs",
    r"cannot open shared object file|GLIBC|exit code -4\b": "library or instruction that it needs",
}
PROGRAM = re.compile(r"sandbox: \[Errno 2\] [\w ]{1,60}: '/usr/bin/([^'/]{1,80})'")
SYNTAX = re.compile(r"SyntaxError|requires Python|requires-python|Python 3\.\d+ or (?:newer|later)")


def lacking(failure: str, files: dict[str, int]) -> str | None:
    """Return the thing that this machine lacks, by the last words of a submission; None for none.

    failure: evidence of how it ended, with the last lines that it printed
    files: of the submission, whose own modules are no matter of the machine
    """
    module = MODULE.search(failure)
    if module:
        top = (module[1] or module[2]).partition(".")[0]
        own = any(name == f"{top}.py" or name.startswith(f"{top}/") for name in files)
        return None if own else f"no module {top}"
    program = PROGRAM.search(failure)
    if program:
        return f"no program {program[1]}"
    if SYNTAX.search(failure):
        return f"Python {platform.python_version()}, which may be older than the script's"
    return next(
        (f"no {thing}" for words, thing in LACKS.items() if re.search(words, failure)), None
    )
