"""A compressed program inside a file that `python file.py` runs.

Three ways, all without the quarter that base85 adds:

- literal: the payload is a latin-1 string literal. Only NUL, CR, the backslash and the closing quotes
  are escaped, 1.2 % of random bytes. It is a text file to git and zip; a copy that turns LF into CRLF
  still runs, for Python reads both as LF. A copy that re-encodes it as UTF-8 does not.
- archive: the payload stands before a stored zip archive that holds `__main__.py`, which Python runs
  whatever the file is called: about 120 bytes in all. Any copy that is not byte for byte breaks it.
- text: ASCII. The payload is a number in base 124, whose digits are the characters that a literal takes
  as they are; 15 % more. For programs that read their own file as text.

The stub registers the source with `linecache`, under the name of the code and that of the file, so
that tracebacks, `inspect.getsource` and compilers that read source (Triton, torch.compile) find it.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

from squeeze.bundle.emit.payload import Payload
from squeeze.bundle.load.modules import BundleError

FORMS = ("literal", "archive", "text", "plain")
# Of base 124: digits whose character a literal does not take, and those that stand for them.
ESCAPED = {124: 0, 125: 13, 126: 34, 127: 92}
BASE = 124
NAME = "<bundle>"  # of the code in tracebacks


@dataclass(frozen=True)
class Shipped:
    """A file as it ships. form: one of FORMS; coder and requires: of the payload."""

    data: bytes
    form: str
    coder: str
    requires: str


def wrap(payload: Payload, form: str) -> Shipped:
    """Return the self-extracting file of a payload. Raises BundleError for an unknown form."""
    if form == "literal":
        argument = f'{literal(payload.data)}.encode("L1")'
        text = f"#coding:L1\n{_stub(payload, argument)}"
        return Shipped(text.encode("latin-1"), form, payload.coder, payload.requires)
    if form == "archive":
        # The archive shows as a folder in __file__; code that asks for its file means the archive.
        # Without a spec, as scripts have none, child processes run the archive again.
        stub = "__file__,__spec__=__file__[:-12],None\n" + _stub(
            payload, f"open(__file__,'rb').read({len(payload.data)})"
        )
        return Shipped(payload.data + _archive(stub), form, payload.coder, payload.requires)
    if form == "text":
        # one operation a digit: n is the payload as a number
        before = f"n=0\nfor c in{digits(payload.data)}.translate({ESCAPED}):n=n*{BASE}+ord(c)\n"
        text = before + _stub(payload, f'n.to_bytes({len(payload.data)},"big")')
        return Shipped(text.encode("ascii"), form, payload.coder, payload.requires)
    raise BundleError("unknown form", expected=", ".join(FORMS), found=form)


def plain(source: str) -> Shipped:
    """Return the source itself as the file: for small programs, which no stub can make smaller."""
    return Shipped(source.encode(), "plain", "none", "")


def _stub(payload: Payload, argument: str) -> str:
    before = payload.before.replace("{}", argument) + "\n" if payload.before else ""
    source = payload.expression.replace("{}", argument)
    # s: the source; n: the name of its code
    return (
        f"import {payload.imports},linecache as l\n"
        f'{before}s={source}.decode();n="{NAME}"\n'
        "l.cache[__file__]=l.cache[n]=len(s),None,s.splitlines(1),n\n"
        "exec(compile(s,n,'exec'))"
    )


def literal(data: bytes) -> str:
    """Return a Python string literal of latin-1 characters that stands for the bytes."""
    pieces = []
    text = data.decode("latin-1")
    for at, character in enumerate(text):
        following = text[at + 1 : at + 2]
        if character == "\0":
            pieces.append("\\000" if following and following in "01234567" else "\\0")
        elif character == "\r":
            pieces.append("\\r")
        elif character == "\\":
            pieces.append("\\\\")
        elif character == '"' and (following == "" or text[at + 1 : at + 3] == '""'):
            pieces.append('\\"')
        else:
            pieces.append(character)
    return '"""' + "".join(pieces) + '"""'


def digits(data: bytes) -> str:
    """Return a Python string literal of ASCII whose characters are the digits of the bytes."""
    number, values = int.from_bytes(data, "big"), []
    while number:
        number, value = divmod(number, BASE)
        values.append(value)
    stand_in = {value: code for code, value in ESCAPED.items()}
    text = "".join(chr(stand_in.get(value, value)) for value in reversed(values))
    return f'"""{text}"""'


def _archive(stub: str) -> bytes:
    """Return a zip archive of `__main__.py`, stored or deflated; always the same bytes of one stub."""
    tried = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method, compresslevel=9) as archive:
            archive.writestr(zipfile.ZipInfo("__main__.py"), stub, method, 9)
        tried.append(buffer.getvalue())
    return min(tried, key=len)
