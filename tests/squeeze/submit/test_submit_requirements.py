"""What a script imports, and the requirements that pin it."""

from __future__ import annotations

from squeeze.bundle.build import smallest
from squeeze.submit.imports import check_requirements, imports_of_script, requirements
from tests.squeeze.submit.bread import refused


def test_imports_are_found_in_functions_and_in_scripts_that_unpack_themselves() -> None:
    source = "def f():\n    import torch.nn as nn, os\n    from numba import njit\n"
    long = source + "".join(f"print({7919 * i % 10007})\n" for i in range(300))
    assert imports_of_script(source.encode()).needed == {"torch", "numba"}
    for form in ("literal", "archive"):
        shipped = smallest(long, forms=(form,)).data
        assert b"torch" not in shipped
        assert imports_of_script(shipped).needed == {"torch", "numba"}
    with refused("runs text that cannot be read"):
        imports_of_script(b"import zlib\nexec(zlib.decompress(b'x'))")


def test_imports_that_may_be_absent_need_not_be_installed() -> None:
    source = (
        b"try:\n    import flash_attn_interface\nexcept ImportError:\n    import numpy\n"
        b"import beside\nfrom . import x\n"
    )
    found = imports_of_script(source, ["beside.py"])
    assert (found.needed, found.optional) == ({"numpy"}, {"flash_attn_interface"})
    assert requirements(found).startswith("numpy==")


def test_imports_that_cannot_be_met_are_refused() -> None:
    with refused("imports no_such_module_anywhere, which is not installed"):
        requirements(imports_of_script(b"import no_such_module_anywhere"))
    with refused("imports squeeze"):
        requirements(imports_of_script(b"import squeeze.codecs"))
    with refused("neither Python"):
        imports_of_script(b"import (")
    needed = imports_of_script(b"import numpy, torch")
    with refused("does not cover"):
        check_requirements("torch==2.9.0\n", needed)
    with refused("not a pinned requirement"):
        check_requirements("torch>=2\nnumpy==2.0", needed)
