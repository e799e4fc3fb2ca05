"""The shipped file against the wrapper that entries count, each with all that it needs to run."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import python_minifier

from squeeze.bundle.build import smallest
from squeeze.bundle.emit.virtual import wrapped

ARGPARSE = Path(sysconfig.get_paths()["stdlib"]) / "argparse.py"


def test_the_file_is_18_percent_smaller_than_lzma_and_base85_of_the_same_source(tmp_path):
    code = python_minifier.minify(ARGPARSE.read_text())
    code += "\nprint(ArgumentParser(prog='here').format_usage())\n"
    sizes = []
    for data in (smallest(code).data, wrapped(code.encode(), "lzma")):
        path = tmp_path / "program.py"
        path.write_bytes(data)
        done = subprocess.run(
            [sys.executable, path], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.stdout == "usage: here [-h]\n\n", done.stderr
        sizes.append(len(data))
    assert sizes[0] <= 0.82 * sizes[1]
