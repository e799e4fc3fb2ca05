"""The one error root. A leaf module: every package of the project may import it.

A message names what was expected, what was found and what to do next. The command line prints it
without a traceback and exits with `exit_code` (1 for errors, 3 for over budget,
4 for no model; 2 is Click's usage).
"""


def printable(text: str) -> str:
    r"""Return `text` on one line: characters that move a cursor, hide or reorder others are escaped.

    File names, tensor names and other people's text may hold anything; this is how they are printed.

    >>> print(printable("a\x1b[2J\nb\u202ec × ü"))
    a\x1b[2J\nb\u202ec × ü
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class SqueezeError(Exception):
    """Anything the user can act on.

    >>> print(SqueezeError("model.sqz: wrong magic", expected="SQZ1", found="PK", fix="Pack again."))
    model.sqz: wrong magic; expected SQZ1, found PK. Pack again.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        expected: object = None,
        found: object = None,
        fix: str = "",
    ) -> None:
        facts = []
        if expected is not None:
            facts.append(f"expected {expected}")
        if found is not None:
            facts.append(f"found {found}")
        message = what + ("; " + ", ".join(facts) if facts else "")
        if fix:
            message += f". {fix}"
        super().__init__(printable(message))


class CorruptData(SqueezeError):
    """Bytes that do not decode: truncated, flipped, or lying about their size."""


class UnsupportedFormat(SqueezeError):
    """A file or feature this version does not read."""


class BadCheckpoint(SqueezeError):
    """A checkpoint that cannot be packed: missing tensors, NaN, wrong shapes, hostile pickle."""


class BadConfig(SqueezeError):
    """A configuration value that is out of range or contradicts the weights."""


class BadData(SqueezeError):
    """A token shard, text or tokenizer that is malformed or does not match the model."""


class RuleBroken(SqueezeError):
    """A score that breaks a rule of the challenge: a token scored twice, or learned from too early."""


class OverBudget(SqueezeError):
    """The files that ship are larger than the limit."""

    exit_code = 3


class NoModel(SqueezeError):
    """A folder without a model: nothing can be said of the limit."""

    exit_code = 4


class MissingPackage(SqueezeError):
    """A package that this installation lacks, and the extra of squeeze that brings it.

    >>> print(MissingPackage("a loss curve needs matplotlib", "plot"))
    a loss curve needs matplotlib. In squeeze's repository: pip install '.[plot]'
    """

    def __init__(self, need: str, extra: str) -> None:
        super().__init__(need, fix=f"In squeeze's repository: pip install '.[{extra}]'")


class Notice(UserWarning):
    """Something the user should know that stops nothing; the command line prints it as a note."""
