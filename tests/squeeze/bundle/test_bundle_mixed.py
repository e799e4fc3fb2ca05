"""The context-mixing coder: what comes out went in, on any machine, and its decoder ships along."""

import ast
import hashlib
import inspect
import lzma
import random
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from squeeze.bundle.emit import mixed
from squeeze.bundle.emit.minify import minify
from squeeze.bundle.emit.payload import payloads
from squeeze.bundle.emit.wrap import wrap
from squeeze.bundle.load.modules import BundleError


def source_of(module):
    return inspect.getsource(module).encode()


@pytest.mark.parametrize(
    "data",
    [b"", b"a", b"\0", b"\xff", bytes(range(256)), b"\0" * 5000, b"ab" * 3000, b"((((([[[[" * 40],
    ids=["empty", "one", "zero", "last", "all values", "zeros", "pairs", "never closed"],
)  # fmt: skip
def test_what_is_decoded_was_encoded(data):
    assert mixed.decode(mixed.encode(data)) == data


@settings(max_examples=4, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_come_back(data):
    assert mixed.decode(mixed.encode(data)) == data


def test_a_long_source_comes_back_and_is_smaller_than_what_lzma_makes_of_it():
    data = (source_of(ast) + source_of(random) + source_of(inspect))[:100_000]
    assert len(data) == 100_000
    coded = mixed.encode(data)
    assert mixed.decode(coded) == data
    assert len(coded) < 0.85 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def test_random_bytes_grow_by_few():
    data = np.random.default_rng(3).integers(0, 256, 20_000, np.uint8).tobytes()
    assert len(mixed.encode(data)) < len(data) * 1.02


def test_compiled_and_plain_python_agree_bit_for_bit():
    known, data = b"def f(A):return A\n", b"def g(A,B):return f(A)+B\n"
    compiled, plain = (np.zeros(8 * len(known + data), np.int32) for _ in range(2))
    mixed.fast(b"", known + data, 0, compiled)
    mixed.predict(b"", known + data, 0, plain)
    np.testing.assert_array_equal(compiled, plain)
    code = mixed.encode(data)[mixed.HEADER :]
    start = np.zeros(0, np.int32)
    assert list(mixed.fast(code, b"", 40, start)) == mixed.predict(code, b"", 40, start)


@pytest.mark.slow
def test_the_kernel_has_no_fused_or_reordered_arithmetic():
    """A fused multiply-add rounds once where plain Python rounds twice."""
    kernel = njit(mixed.predict)  # code from the cache cannot be inspected
    kernel(b"", b"a", 0, np.zeros(8, np.int32))
    (llvm,), (assembly,) = kernel.inspect_llvm().values(), kernel.inspect_asm().values()
    assert "fmul double" in llvm
    assert "llvm.fma" not in llvm and "fmuladd" not in llvm and "fmul fast" not in llvm
    assert "vfmadd" not in assembly and "vfmsub" not in assembly and "\tfmadd" not in assembly


def test_the_shipped_decoder_restores_in_plain_python_too():
    data = b"def f(A):return A\n"
    chances = np.zeros(8 * len(data), np.int32)
    mixed.fast(b"", data, 0, chances)
    code = mixed._code(np.unpackbits(np.frombuffer(data, np.uint8)), chances)
    text = mixed.decoder()
    assert "chances" not in text and ast.unparse(ast.parse(text)) != text
    names = {}
    exec(text.replace("@njit\n", ""), names)
    assert bytes(names[mixed.NAME](code, b"", len(data))[: -mixed.SPARE]) == data


@pytest.mark.skipif(version("python_minifier") != "3.4.0", reason="another minifier prints it")
def test_the_decoder_is_the_one_that_earlier_files_carry():
    """Another text would give other codes, and `squeeze budget` could not read the earlier files."""
    text = mixed.decoder()
    assert (len(text), hashlib.sha256(text.encode()).hexdigest()[:16]) == (2206, "8f61df6786ee8f3d")


@pytest.mark.parametrize("payload", [b"", b"\1\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7fabc"])
def test_an_impossible_length_is_refused(payload):
    with pytest.raises(BundleError):
        mixed.decode(payload)


def test_damaged_codes_end_and_give_another_text():
    data = b"x = 1\n" * 500
    code = bytearray(mixed.encode(data))
    rng = random.Random(5)
    for _ in range(3):
        damaged = bytearray(code)
        damaged[rng.randrange(mixed.HEADER, len(code))] ^= 1 << rng.randrange(8)
        assert len(mixed.decode(bytes(damaged))) == len(data)
    cut = mixed.decode(bytes(code[: len(code) // 2]))
    assert len(cut) == len(data)


def test_a_code_without_its_last_zeros_reads_them():
    for size in (3, 9, 15, 22):
        data = bytes(size % 7 for _ in range(size))
        assert mixed.decode(mixed.encode(data)) == data


PROGRAM = """
import inspect
from numba import njit
@njit
def kernel(count):
    s = 0
    for i in range(count): s += i * i
    return s
def total(values, start=0):
    for value in values: start += value
    return start
print(total([1, 2, 3], start=4), kernel(10), "".join(inspect.getsource(total).split()))
"""


@pytest.mark.parametrize("form", ["literal", pytest.param("archive", marks=pytest.mark.slow)])
def test_a_script_in_either_form_runs_and_shows_its_source(tmp_path, form):
    code = minify(PROGRAM, ("total",))
    (payload,) = payloads(code.encode(), ("mixed",))
    shipped = wrap(payload, form)
    assert shipped.requires == "numba"
    path = tmp_path / "train_gpt.py"
    path.write_bytes(shipped.data)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second, text = done.stdout.split(maxsplit=2)
    assert (first, second) == ("10", "285")
    # inspect may tell what it is handed by its parameters
    assert text.startswith("deftotal(values,start=0):") and "forvalue" not in text


def test_the_same_text_gives_the_same_file():
    made = [
        wrap(payload, "literal").data
        for _ in range(2)
        for payload in payloads(b"x=1\n", ("mixed",))
    ]
    assert made[0] == made[1]
