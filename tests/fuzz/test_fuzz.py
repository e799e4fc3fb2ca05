"""Readers accept their corpus, and refuse damaged files with SqueezeError, soon and in little memory."""

import contextlib
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from engine import CORPUS, Result, corpus, execute, inputs, warm
from mutate import mutate
from targets import TARGETS, Target

from squeeze.errors import SqueezeError

MUTATIONS = 300
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_every_target_has_a_corpus_and_every_corpus_a_target():
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_accepted(name):
    warm(TARGETS[name])


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_refused_or_read_within_bounds(name):
    target, result = TARGETS[name], Result(name)
    warm(target)
    for data in itertools.islice(inputs(target, seed=1), MUTATIONS):
        execute(target, data, result)
    assert not result.crashes, [crash["error"] for crash in result.crashes]
    assert result.accepted + result.refused == MUTATIONS
    # readers that skip what is odd, or count it as nothing
    lenient = "sums log metadata fetched entrant-claims entrant-log".split()
    assert result.refused or name in lenient


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.text])
@settings(max_examples=40)
@given(data=st.data())
def test_any_json_in_place_of_any_value_is_refused_or_read(name, data):
    (first, *_) = corpus(name)
    try:
        value = json.loads(first)
    except ValueError:
        value = {}
    if isinstance(value, dict) and value:
        key = data.draw(st.sampled_from(sorted(value)))
        value[key] = data.draw(VALUES)
    else:
        value = data.draw(VALUES)
    with contextlib.suppress(SqueezeError):
        TARGETS[name].read(json.dumps(value).encode("utf-8", "surrogatepass"))


def test_mutations_repeat_with_their_seed():
    files = corpus("sqz")
    first, second = (mutate(files[0], files, random.Random(5)) for _ in range(2))
    assert first == second != files[0]


def test_a_crash_is_counted_and_kept_once_for_each_place():
    result = Result("x")
    for data in (b"a", b"b"):
        execute(Target("x", lambda data: {}[data]), data, result)
    assert result.executions == 2 and len(result.crashes) == 1
    assert result.crashes[0]["input"] == b"a".hex()


def test_the_runner_prints_executions_and_crashes(tmp_path):
    command = [sys.executable, str(Path(__file__).parent / "run.py"), "--seconds", "1"]
    command += ["--target", "gate", "--engine", "mutations", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["crashes"] == 0 and report["executions"] > 50
