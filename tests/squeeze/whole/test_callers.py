"""Callers of the public API: their own settings change no result, and odd arguments are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import squeeze
from squeeze.cli import cli
from squeeze.errors import BadCheckpoint, BadConfig, BadData
from squeeze.subject.defaults import Shared, torch_by_default
from squeeze.train.data.text import train_tokenizer
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.tiny_models import begun

CONFIG = ModelConfig(512, 1, 32, 2, 1, 64, seq_len=16)
IDS = np.random.default_rng(0).integers(0, 512, 128).astype(np.uint16)
LIMIT = 15_000


@contextmanager
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def products(word: str | None) -> Iterator[None]:
    """Set the precision of products by torch's old interface, or that of one backend by its new one."""
    before = Shared.current()
    try:
        if word is None:
            torch.backends.cuda.matmul.fp32_precision = "tf32"
        else:
            torch.set_float32_matmul_precision(word)
        inside = Shared.current()
        yield
        assert Shared.current() == inside
    finally:
        before.set_()


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "nothing": nullcontext,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "a default dtype": doubles,
    "a default device": lambda: torch.device("meta"),
    "products of a backend": lambda: products(None),
    "products of all": lambda: products("medium"),
}


class Pair(nn.Module):
    """A model that is not of this project."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.table, self.head = nn.Embedding(512, 24), nn.Linear(24, 512)
        self.seq_len = 16

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.table(ids))
        return logits


@pytest.fixture(scope="module")
def models() -> list[nn.Module]:
    gpt = GPT(CONFIG)
    gpt.load_state_dict(begun(CONFIG, 3))
    return [gpt, Pair()]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "t.model"
    train_tokenizer([text for m in vars(str).values() if (text := m.__doc__)], 512, path)
    return path


def results(models: list[nn.Module], tokenizer: Path) -> list[object]:
    """Bytes of packs, and scores."""
    packs = [squeeze.pack(m, LIMIT, tokens=IDS, preset="fast").data for m in models]
    return packs + [squeeze.evaluate(model, IDS, tokenizer).nats for model in models]


@pytest.fixture(scope="module")
def expected(models: list[nn.Module], tokenizer: Path) -> list[object]:
    return results(models, tokenizer)


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_the_caller_change_no_result_and_stay(
    setting: str, models: list[nn.Module], tokenizer: Path, expected: list[object]
) -> None:
    with SETTINGS[setting]():
        before = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), Shared.current()
        assert results(models, tokenizer) == expected
        after = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), Shared.current()
        assert after == before


def test_settings_that_threads_share_come_back_when_the_last_has_left() -> None:
    def inside(number: int) -> torch.dtype:
        with torch_by_default():
            return torch.get_default_dtype()

    with doubles(), ThreadPoolExecutor(4) as threads:
        assert set(threads.map(inside, range(50))) == {torch.float32}


@pytest.mark.parametrize(
    "limit", ["40000", None, float("nan"), float("inf"), 3.5, [1], 0, -5, True]
)
def test_a_limit_that_is_no_number_of_bytes_is_refused_before_the_work(
    limit: Any, models: list[nn.Module], tokenizer: Path
) -> None:
    with pytest.raises(BadConfig, match="limit; expected a whole number of bytes"):
        squeeze.pack("no such file", limit)
    if limit is not None:
        with pytest.raises(BadConfig, match="limit; expected a whole number of bytes"):
            squeeze.budget(tokenizer, limit)


def test_what_is_no_path_and_no_window_is_refused(models: list[nn.Module]) -> None:
    for code in (5, [1, 2], np.arange(3)):  # such as tokens in the place of code
        with pytest.raises(BadConfig, match="files; expected a path, or several"):
            squeeze.pack(models[0], 40_000, code)
    for window in (0, -1, "64"):
        with pytest.raises(BadConfig, match="seq_len"):
            squeeze.pack(nn.Embedding(8, 8), 40_000, config={"seq_len": window})


def test_a_whole_limit_of_any_kind_is_taken(models: list[nn.Module], tokenizer: Path) -> None:
    for limit in (np.int64(10**6), 1e6):
        assert squeeze.pack(models[0], limit, preset="round").data  # type: ignore[arg-type]
        assert squeeze.budget(tokenizer, limit).total  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [str, Path, lambda path: [path], lambda path: iter([path])])
def test_code_is_one_path_or_several(
    kind: Callable[[Path], Any], models: list[nn.Module], tmp_path: Path
) -> None:
    code = tmp_path / "train_gpt.py"
    code.write_text("print(1)\n")
    packed = squeeze.pack(models[0], code=kind(code), preset="round")
    assert packed.ledger.total == len(packed.data) + 9


def test_a_tokenizer_of_another_vocabulary_is_refused_before_the_work(
    tokenizer: Path, tmp_path: Path
) -> None:
    larger = GPT(ModelConfig(800, 1, 32, 2, 1, 64, seq_len=16))
    words = "different vocabularies; expected a tokenizer of the model's 800 pieces, found 512"
    with pytest.raises(BadData, match=words):
        squeeze.pack(larger, LIMIT, tokens=IDS, preset="fast", tokenizer=tokenizer)
    squeeze.pack(larger, preset="lossless").save(tmp_path / "m.sqz")
    command = ["pack", str(tmp_path / "m.sqz"), "-o", str(tmp_path / "n.sqz"), "--preset", "fast"]
    result = CliRunner().invoke(
        cli, [*command, "--limit", str(LIMIT), "--tokens", "64", "--tokenizer", str(tokenizer)]
    )
    assert isinstance(result.exception, BadData) and "800 pieces" in str(result.exception)


def test_weights_are_loaded_into_what_takes_them_or_one_error_says_why(
    models: list[nn.Module], tmp_path: Path
) -> None:
    squeeze.pack(models[0], preset="lossless").save(tmp_path / "m.sqz")
    for odd in (None, "model", models[0].state_dict()):
        with pytest.raises(
            BadCheckpoint, match=r"nothing to load into; expected a torch.nn.Module"
        ):
            squeeze.load_into(odd, tmp_path / "m.sqz")  # type: ignore[arg-type]
    with torch.device("meta"):
        empty = GPT(CONFIG)
    with pytest.raises(BadCheckpoint, match="has no values"):
        squeeze.load_into(empty, tmp_path / "m.sqz")
    with torch.inference_mode():
        frozen = GPT(CONFIG)
        squeeze.load_into(frozen, tmp_path / "m.sqz")
    assert torch.equal(frozen.tok_emb.weight, models[0].get_parameter("tok_emb.weight"))
    with pytest.raises(BadCheckpoint, match="made under inference mode"):
        squeeze.load_into(frozen, tmp_path / "m.sqz")


@pytest.mark.parametrize("config", [3, "seq_len", [("seq_len", 3)], {3: "seq_len"}])
def test_a_configuration_that_is_none_is_refused(
    config: Any, models: list[nn.Module], tokenizer: Path
) -> None:
    for model in models:
        with pytest.raises(BadConfig, match="configuration"):
            squeeze.evaluate(model, IDS, tokenizer, config=config)


def test_tokens_in_rows_of_several_lengths_are_refused(
    models: list[nn.Module], tokenizer: Path
) -> None:
    with pytest.raises(BadData, match="not token ids"):
        squeeze.evaluate(models[0], [[1], [2, 3]], tokenizer)


def test_a_device_without_values_is_refused(models: list[nn.Module], tokenizer: Path) -> None:
    for device in ("meta", "meta:0"):
        with pytest.raises(
            BadConfig, match="device; expected one that computes values, found meta"
        ):
            squeeze.evaluate(models[0], IDS, tokenizer, device=device)
