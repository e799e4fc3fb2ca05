"""Every class of damage × every reader: a named error, soon and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from malformed import CLASSES, KNOWN, Refused, Tolerated
from targets import TARGETS

CASES = [(reader, name) for reader, cases in KNOWN.items() for name in cases]
GROWTH = 300 << 20  # bytes over what the reader takes for a good file
SECONDS = 5.0  # of CPU


def test_every_reader_has_every_class():
    assert set(KNOWN) == set(TARGETS)
    for reader, cases in KNOWN.items():
        assert set(CLASSES) <= set(cases), reader


@pytest.mark.parametrize(("reader", "name"), CASES)
def test_damage_has_its_own_error(reader, name):
    case, read = KNOWN[reader][name], TARGETS[reader].read
    if isinstance(case, Refused):
        with pytest.raises(case.error, match=case.words) as caught:
            read(case.make())
        assert type(caught.value) is case.error and "\n" not in str(caught.value)
    else:
        found = read(case.make())
        assert getattr(found, "format", found) == case.value, case.reason


def test_only_readers_that_must_go_on_tolerate_damage():
    tolerant = {
        r for r, cases in KNOWN.items() if any(isinstance(c, Tolerated) for c in cases.values())
    }
    assert tolerant == {
        "foreign", "foreign-inside", "metadata", "log", "sums", "fetched",
        "entrant-claims", "entrant-log",
    }  # fmt: skip


# Memory is the peak of resident pages, which Linux counts anew after a 5 is written to clear_refs.
MEASURE = """
import json, re, resource, sys, time
sys.path[:0] = [sys.argv[1]]
from malformed import KNOWN
from engine import corpus
from squeeze.errors import SqueezeError
from targets import TARGETS

def peak(field):
    return int(re.search(field + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10

found = {}
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
for reader, cases in KNOWN.items():
    try:  # what is imported and compiled for a good file does not count
        TARGETS[reader].read(TARGETS[reader].repair(corpus(reader)[0]))
    except SqueezeError:
        pass
    for name, case in cases.items():
        data = case.make()
        open("/proc/self/clear_refs", "w").write("5")
        before, begun = peak("VmRSS"), time.process_time()
        try:
            TARGETS[reader].read(data)
        except SqueezeError:
            pass
        took = time.process_time() - begun
        found[f"{reader}: {name}"] = {
            "bytes": len(data), "growth": peak("VmHWM") - before, "seconds": took}
print(json.dumps(found))
"""


def test_damage_is_found_soon_and_in_little_memory():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of memory is measured on Linux only")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(Path(__file__).parent)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == len(CASES)
    bad = {name: case for name, case in found.items()
           if case["growth"] > GROWTH or case["seconds"] > SECONDS}  # fmt: skip
    assert not bad
