"""Files that are whole and mean nothing: one error each, and no error for what is empty."""

from __future__ import annotations

import numpy as np
import pytest

from squeeze.artifact.file import decode, encode
from squeeze.artifact.parts import PARTS, whole_tensors
from squeeze.artifact.streams import Artifact
from squeeze.checkpoint.inspect import TensorFacts
from squeeze.errors import CorruptData
from squeeze.tensors.quantized import QuantizedTensor, RawTensor


def raw(*shape: int) -> RawTensor:
    return RawTensor(np.zeros(shape, np.uint32), "fp32")


@pytest.mark.parametrize("field", ["model", "subject"])
@pytest.mark.parametrize("value", [[1], "x", 5, None])
def test_a_model_or_subject_that_is_no_object_is_refused(field: str, value: object) -> None:
    with pytest.raises(CorruptData, match=f"{field} in the header is not an object"):
        decode(encode(Artifact({field: value}, {"a": raw(2, 2)})))


def test_an_empty_tensor_has_sides_that_an_array_can_have() -> None:
    assert decode(encode(Artifact({}, {"a": raw(0, 1 << 20)}))).tensors["a"].shape == (0, 1 << 20)
    with pytest.raises(CorruptData, match=r"tensor a is too large.*0×1048576×1048576"):
        decode(encode(Artifact({}, {"a": raw(0, 1 << 20, 1 << 20)})))


def test_parts_make_up_no_tensor_of_more_dimensions_than_a_file_has() -> None:
    part = [0, [[2, 2]], [[2, 1]]]
    for ones, fits in ((6, True), (7, False), (5_000, False)):
        header = {PARTS: {"a": [[1] * ones + [2, 2], [part]]}}
        artifact = Artifact(header, {"a[0]": raw(2, 2)})
        if fits:
            assert whole_tensors(artifact)["a"].shape == (1,) * ones + (2, 2)
            continue
        with pytest.raises(CorruptData, match="not made up of its parts"):
            whole_tensors(artifact)


def test_empty_tensors_have_facts() -> None:
    codes = QuantizedTensor(np.zeros((0, 4), np.int8), np.zeros(0, np.uint16), (0, 4))
    for tensor in (raw(0), raw(0, 3), codes):
        facts = TensorFacts.of("a", tensor, "other")
        assert (facts.codes, facts.rms, facts.max) == (None, 0.0, 0.0)
