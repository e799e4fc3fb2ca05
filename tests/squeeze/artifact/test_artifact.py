"""The container and the artifact: what is written is what is read, and nothing else is."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze import codecs
from squeeze.artifact import container
from squeeze.artifact.file import decode, encode
from squeeze.artifact.header import HeaderReader, check_names, content_fields, encode_header
from squeeze.artifact.layout import TensorRecord, derive_streams
from squeeze.artifact.streams import Artifact
from squeeze.calib.quantizers.round_to_nearest import quantize_rtn
from squeeze.codecs.coder import varint
from squeeze.errors import BadConfig, CorruptData, SqueezeError
from squeeze.tensors.floats import from_bits, round_to, to_bits
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from tests import make_golden

TESTS = Path(__file__).parents[2]

ERRORS = json.loads((TESTS / "golden-errors" / "errors.json").read_text())


def same(a: Artifact, b: Artifact) -> bool:
    def parts(tensor: RawTensor | QuantizedTensor) -> list[object]:
        values = vars(tensor).values()
        return [(v.dtype.str, v.tolist()) if isinstance(v, np.ndarray) else v for v in values]

    return a.config == b.config and {k: parts(t) for k, t in a.tensors.items()} == {
        k: parts(t) for k, t in b.tensors.items()
    }


def test_an_artifact_decodes_to_what_was_encoded() -> None:
    original = make_golden.sample()
    assert same(decode(encode(original)), original)


def test_equal_tensors_give_equal_bytes() -> None:
    assert encode(make_golden.sample()) == encode(make_golden.sample())


def test_a_file_without_tensors_round_trips() -> None:
    assert same(decode(encode(Artifact({}, {}))), Artifact({}, {}))


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (), (1,), (1, 1), (2, 3, 4)])
def test_any_shape_round_trips(shape: tuple[int, ...]) -> None:
    values = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    tensors: dict[str, RawTensor | QuantizedTensor] = {
        "raw": RawTensor(to_bits(values, "fp16"), "fp16")
    }
    if shape and shape[0] and values.size:
        tensors["codes"] = quantize_rtn(values, 8)
    original = Artifact({}, tensors)
    decoded = decode(encode(original))
    assert same(decoded, original)
    assert decoded.tensors["raw"].shape == shape


def test_truncation_at_every_length_raises() -> None:
    data = encode(make_golden.sample())
    for length in range(len(data)):
        with pytest.raises(SqueezeError):
            decode(data[:length])


def test_a_flip_of_any_byte_raises() -> None:
    data = bytearray(encode(make_golden.sample()))
    for index in range(len(data)):
        data[index] ^= 1 << index % 8
        with pytest.raises(SqueezeError):
            decode(bytes(data))
        data[index] ^= 1 << index % 8


def test_a_flip_in_a_resealed_file_is_an_error_or_the_same_tensors() -> None:
    """Past the checksum, decoders and the content digest still let no wrong tensor through."""
    original = make_golden.sample()
    data = encode(original)
    for index in range(14, len(data)):
        flipped = bytearray(data)
        flipped[index] ^= 1 << index % 8
        try:
            decoded = decode(make_golden.reseal(bytes(flipped)))
        except SqueezeError:
            continue
        assert same(decoded, original)


@pytest.mark.parametrize("name", ERRORS)
def test_malformed_file_has_its_own_error(name: str) -> None:
    data = (TESTS / "golden-errors" / f"{name}.sqz").read_bytes()
    with pytest.raises(SqueezeError) as caught:
        decode(data)
    assert ERRORS[name] in str(caught.value)


def test_every_malformed_class_is_committed() -> None:
    assert set(ERRORS) == set(make_golden.malformed())


@pytest.mark.parametrize("name", ["v1-raw", "v1-default"])
def test_golden_artifacts_still_decode(name: str) -> None:
    data = (TESTS / "golden" / f"{name}.sqz").read_bytes()
    assert same(decode(data), make_golden.sample())


@pytest.mark.parametrize(("name", "candidates"), [("v1-raw", ["raw"]), ("v1-default", None)])
def test_encoding_still_gives_the_golden_bytes(name: str, candidates: list[str] | None) -> None:
    data = encode(make_golden.sample(), candidates=candidates)
    assert data == (TESTS / "golden" / f"{name}.sqz").read_bytes()


@given(st.integers(0, 2**56))
def test_a_number_of_the_header_round_trips(value: int) -> None:
    reader = HeaderReader(varint.write(value))
    assert reader.varint("value", 2**56) == value
    reader.finish()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80", "header ends inside batch"),
        (b"\x81\x00", "header: batch is not in its shortest form"),
        (b"\x80" * 9 + b"\x01", "header: batch is longer than 9 bytes"),
        (b"\x65", "header field batch is too large; expected ≤ 100, found 101"),
    ],
)
def test_a_malformed_number_of_the_header_is_named(data: bytes, message: str) -> None:
    with pytest.raises(CorruptData, match=message):
        HeaderReader(data).varint("batch", 100)


def with_config(config: bytes) -> bytes:
    return make_golden.with_header(encode(Artifact({}, {})), make_golden.fields(config=config))


def test_a_config_that_cannot_be_written_again_is_malformed() -> None:
    with pytest.raises(CorruptData, match="config in the header is not JSON"):
        container.parse(with_config(b'{"a":"\\ud800"}'))  # half a surrogate pair
    for depth in range(900, 1000):  # about the depth at which reading still works and writing not
        with pytest.raises(CorruptData):
            container.parse(with_config(b'{"a":' + b"[" * depth + b"]" * depth + b"}"))
    with pytest.raises(CorruptData, match="config in the header is not JSON"):
        encode(Artifact({"a": "\ud800"}, {}))


def test_a_name_that_occurs_twice_among_many_is_found_at_once() -> None:
    """The time was quadratic: 100 s for a header of 300 kB."""
    names = [*map(str, range(1 << 16))]
    names[-1] = names[-2]
    clock = time.process_time()
    with pytest.raises(CorruptData, match="occurs twice; found 65534"):
        check_names(names)
    assert time.process_time() - clock < 1


def test_a_36m_parameter_header_fits_in_a_kilobyte() -> None:
    records = []
    for i in range(11):
        shapes = {"attn.c_q": (512, 512), "attn.c_k": (256, 512), "attn.c_v": (256, 512)}
        shapes |= {"attn.proj": (512, 512), "mlp.fc": (2048, 512), "mlp.proj": (512, 2048)}
        for role, shape in shapes.items():
            records.append(
                TensorRecord(
                    name=f"blocks.{i}.{role}.weight",
                    shape=shape,
                    kind="trellis",
                    stored="fp16",
                    code_bits=8,
                    states=8,
                    columns=True,
                )
            )
        for role, small in {"attn_scale": 512, "mlp_scale": 512, "attn.q_gain": 8}.items():
            records.append(TensorRecord(f"blocks.{i}.{role}", (small,), stored="fp16"))
    table = TensorRecord(
        name="tok_emb.weight", shape=(8192, 512), kind="uniform", stored="fp16", code_bits=8
    )
    records.append(table)
    rng = np.random.default_rng(0)
    streams = derive_streams(records)
    coding = [(40, int(rng.integers(80_000, 400_000))) for _ in streams]
    config = {"model": {"vocab_size": 8192, "num_layers": 11, "model_dim": 512, "num_heads": 8}}
    header = encode_header(content_fields(config, records), coding)
    assert container.PROLOGUE_SIZE + len(header) <= 1000


# --- the weights unit ---


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50))
def test_bfloat16_rounding_agrees_with_torch(values: list[float]) -> None:
    import torch

    array = np.array(values, np.float32)
    expected = torch.tensor(array).to(torch.bfloat16).float().numpy()
    assert round_to(array, "bf16").tobytes() == expected.tobytes()


def test_nan_stays_nan_in_bfloat16() -> None:
    assert np.isnan(from_bits(to_bits(np.array([np.nan], np.float32), "bf16"), "bf16")).all()


def test_dequantize_multiplies_rows_and_columns() -> None:
    codes = np.array([[1, -2], [3, 4]], np.int8)
    steps = to_bits(np.array([0.5, 2.0], np.float32), "fp16")
    tensor = QuantizedTensor(codes, steps, (2, 2), columns=np.array([0, 8], np.int8))
    assert tensor.dequantize().tolist() == [[0.5, -2.0], [6.0, 16.0]]


def test_rtn_codes_are_nearest_for_the_step_that_ships() -> None:
    weights = np.random.default_rng(3).standard_normal((20, 30)).astype(np.float32)
    quantized = quantize_rtn(weights, 8)
    steps = from_bits(quantized.steps, "fp16")
    assert (np.abs(quantized.dequantize() - weights) <= steps[:, None] * 0.5001).all()


def test_rtn_clips_at_k_standard_deviations() -> None:
    weights = np.ones((1, 1000), np.float32)
    weights[0, 0] = 1000.0
    rms = float(np.sqrt((weights.astype(np.float64) ** 2).mean()))
    quantized = quantize_rtn(weights, 6, 12.85)
    assert quantized.codes.max() == 31
    assert quantized.dequantize().max() == pytest.approx(12.85 * rms, rel=1e-3)


def test_rtn_decodes_zero_rows_to_zero() -> None:
    weights = np.zeros((3, 8), np.float32)
    weights[1] = 1.0
    assert (quantize_rtn(weights, 4).dequantize()[[0, 2]] == 0).all()


@pytest.mark.parametrize(("bits", "k"), [(1, None), (17, None), (6, 0.0), (6, float("nan"))])
def test_rtn_refuses_bad_settings(bits: int, k: float | None) -> None:
    with pytest.raises(BadConfig):
        quantize_rtn(np.ones((2, 2), np.float32), bits, k)


def test_a_name_that_is_not_printable_is_refused_on_writing() -> None:
    bits = to_bits(np.ones(1, np.float32), "fp32")
    with pytest.raises(CorruptData):
        encode(Artifact({}, {"a\nb": RawTensor(bits, "fp32")}))


def test_the_specification_lists_every_codec() -> None:
    text = (TESTS.parent / "docs" / "format.md").read_text()
    listed = dict(re.findall(r"^\| (\d+) \| `([a-z-]+)` \|", text, re.MULTILINE))
    known = {str(codecs.get(name).wire_id): name for name in codecs.names()}
    assert listed == known
