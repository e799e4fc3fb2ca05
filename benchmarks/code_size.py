"""Bytes of shipped code: ours against the usual wrappers of the same minified source.

    python benchmarks/code_size.py [SOURCE ...]      # own, or modules of the standard library

Every file holds the same minified source and its own stub, and counts only after a fresh Python has
restored that source from it, byte for byte. Writes results/DATE-code.json and .md.
"""

from __future__ import annotations

import base64
import lzma
import platform
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipapp
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from report import earlier_rows, write_report

from squeeze.bundle.build import BOTH, smallest
from squeeze.bundle.emit.minify import minify
from squeeze.bundle.emit.payload import CODERS, STANDARD
from squeeze.bundle.emit.virtual import wrapped
from squeeze.score.modes import Mode
from squeeze.submit import entry
from squeeze.submit.script import own_script

OWN = "own submission"
MODULES = ("_pydecimal", "argparse", "datetime", "doctest", "inspect", "pickletools", "tarfile",
           "turtle", "typing")  # fmt: skip
SECONDS = 600  # that restoring the source may take
RIVALS = ("lzma + base85", "brotli + base85", "xz + base85", "zlib + base64", "zipapp -c")
OURS = ("ours, standard library", "ours, any coder")
BAR = 0.18  # saved against lzma + base85

# Run a file until it executes the expected source, or say what a zip archive would run.
CHECK = """
import builtins, linecache, runpy, sys, zipimport
class Same(BaseException): pass
path, expected, real = sys.argv[1], open(sys.argv[2], 'rb').read(), exec
def watch(code, *rest):
    if getattr(code, 'co_filename', '') == '<bundle>': code = ''.join(linecache.cache['<bundle>'][2])
    if isinstance(code, str): code = code.encode()
    if code == expected: raise Same
    real(code, *rest)
builtins.exec = watch
if path.endswith('.pyz') and zipimport.zipimporter(path).get_source('__main__').encode() != expected:
    sys.exit('the archive holds another source')
try:
    if not path.endswith('.pyz'): runpy.run_path(path, run_name='__main__'); sys.exit('never ran it')
except Same: pass
print('same')
"""


def rivals(code: bytes) -> dict[str, Callable[[], bytes]]:
    """The file that each rival ships, stub included."""
    stub = "import {0},base64\nexec({0}.decompress(base64.{1}decode('{2}')))"

    def xz() -> bytes:
        payload = lzma.compress(code, preset=9 | lzma.PRESET_EXTREME)
        return stub.format("lzma", "b85", base64.b85encode(payload).decode()).encode()

    def deflate() -> bytes:
        payload = base64.b64encode(zlib.compress(code, 9))
        return stub.format("zlib", "b64", payload.decode()).encode()

    def archive() -> bytes:
        with tempfile.TemporaryDirectory() as name:
            source, target = Path(name) / "app", Path(name) / "app.pyz"
            source.mkdir()
            (source / "__main__.py").write_bytes(code)
            zipapp.create_archive(source, target, compressed=True)
            return target.read_bytes()

    made = (
        lambda: wrapped(code, "lzma"), lambda: wrapped(code, "brotli"), xz, deflate, archive
    )  # fmt: skip
    return dict(zip(RIVALS, made, strict=True))


def restore(data: bytes, code: bytes, kind: str) -> float:
    """Seconds a fresh Python takes to start and restore the source. Exits when it is another."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / ("app.pyz" if kind == "zipapp -c" else "train_gpt.py")
        path.write_bytes(data)
        expected = Path(name) / "expected.txt"
        expected.write_bytes(code)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", CHECK, path, expected],
            capture_output=True, text=True, timeout=SECONDS, check=False, cwd=name,
        )  # fmt: skip
        taken = time.perf_counter() - started
    if done.stdout != "same\n":
        sys.exit(f"{kind} does not restore its source: {done.stderr[-400:]}")
    return taken


def measure(name: str) -> dict[str, Any]:
    """One row: sizes of the source and of every file that ships it."""
    if name == OWN:
        made = own_script(entry.MODEL, entry.RECIPE, entry.LIMIT, Mode(entry.MODE))
        raw, code = made.raw_bytes, made.minified
    else:
        text = (Path(sysconfig.get_paths()["stdlib"]) / f"{name}.py").read_text()
        raw, code = len(text.encode()), minify(text)
    source = code.encode()
    files = {kind: make() for kind, make in rivals(source).items()}
    made_by = {kind: "" for kind in files}
    for kind, coders in zip(OURS, (STANDARD, CODERS), strict=True):
        shipped = smallest(code, coders, BOTH)
        files[kind] = shipped.data
        made_by[kind] = f"{shipped.coder}, {shipped.form}"
    sizes = {kind: len(data) for kind, data in files.items()}
    return {
        "source": name, "raw": raw, "minified": len(source), "bytes": sizes, "made_by": made_by,
        "restore_seconds": {k: round(restore(data, source, k), 3) for k, data in files.items()},
        "saved": {
            kind: {rival: 1 - sizes[kind] / sizes[rival] for rival in RIVALS} for kind in OURS
        },
    }  # fmt: skip


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table of bytes, one of ratios, and how the bar is met."""
    kinds = [*OURS, *RIVALS]
    lines = ["| source | raw | minified | " + " | ".join(kinds) + " |", "|---" * 10 + "|"]
    for row in rows:
        cells = [row["source"], f"{row['raw']:,}", f"{row['minified']:,}"]
        cells += [f"{row['bytes'][k]:,}" + (f" ({row['made_by'][k]})" if row["made_by"][k] else "")
                  for k in kinds]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Bytes that ours saves: standard library / any coder.", "",
              "| source | " + " | ".join(RIVALS) + " |", "|---" * 6 + "|"]  # fmt: skip
    for row in rows:
        saved = [" / ".join(f"{row['saved'][kind][r]:.1%}" for kind in OURS) for r in RIVALS]
        lines.append(f"| {row['source']} | " + " | ".join(saved) + " |")
    worst = [min(row["saved"][kind]["lzma + base85"] for row in rows) for kind in OURS]
    lines += [
        "", f"Least saved against lzma + base85: {worst[0]:.1%} with the standard library, "
        f"{worst[1]:.1%} with any coder; the bar is {BAR:.0%}.", "",
        "Seconds to start and restore the source, the slowest of the sources: "
        + ", ".join(f"{k} {max(row['restore_seconds'][k] for row in rows):.2f}" for k in kinds) + ".",
        "", f"Python {platform.python_version()}, "
        + ", ".join(f"{p} {version(p)}" for p in ("python_minifier", "brotli", "zstandard")) + ".",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    chosen = sys.argv[1:] or [OWN, *MODULES]
    chosen = [OWN if name == "own" else name for name in chosen]
    rows = {row["source"]: row for row in earlier_rows("code")}
    for name in chosen:
        rows[name] = measure(name)
        print(name, rows[name]["bytes"], flush=True)
        ordered = [rows[key] for key in sorted(rows, key=lambda key: (key != OWN, key))]
        write_report("code", ordered, markdown(ordered))


if __name__ == "__main__":
    main()
