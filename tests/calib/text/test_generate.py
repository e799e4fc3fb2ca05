"""Text that the model writes for its own calibration."""

from __future__ import annotations

import functools
from functools import partial

import numpy as np
import pytest
import torch

from squeeze.calib.text.generate import generate, uniforms
from squeeze.errors import BadCheckpoint, BadConfig
from squeeze.train.model.cache import Cache
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.recorder import Recorder

CONFIG = ModelConfig(50, 2, 16, 2, 1, 24, seq_len=8, layer_schedule=(0, 1, 0))


@functools.cache
def model() -> GPT:
    built, generator = GPT(CONFIG), torch.Generator().manual_seed(5)
    for weight in built.parameters():
        weight.data = torch.randn(weight.shape, generator=generator)
    return built.requires_grad_(False)


def write(count: int = 6, length: int = 12, **options: object) -> np.ndarray:
    return generate(partial(Cache, model()), 50, count, length, **options)


def test_same_seed_writes_the_same_text_and_another_seed_another() -> None:
    assert np.array_equal(write(seed=3), write(seed=3))
    assert not np.array_equal(write(seed=3), write(seed=4))


def test_text_does_not_depend_on_the_batch_size() -> None:
    whole = write(count=7)
    for batch in (1, 2, 3, 5):
        assert np.array_equal(write(count=7, batch=batch), whole)


def test_a_longer_run_starts_with_the_shorter_one() -> None:
    assert np.array_equal(write(count=9, length=15)[:4, :10], write(count=4, length=10))


def test_sequences_differ_and_stay_in_the_vocabulary() -> None:
    text = write(count=20)
    assert text.dtype == np.uint16 and text.max() < 50
    assert len(np.unique(text, axis=0)) == 20


def test_draws_follow_the_full_forward_s_inverse_distribution() -> None:
    text, numbers = write(count=3, length=10, seed=2, temperature=0.7), uniforms(2, range(3), 10)
    assert np.array_equal(text[:, 0], (numbers[:, 0] * 50).astype(int))
    with torch.inference_mode():
        logits = model()(torch.from_numpy(text.astype(np.int64))).double().numpy() / 0.7
    for row in range(3):
        for at in range(1, 10):
            chances = np.exp(logits[row, at - 1] - logits[row, at - 1].max())
            edges = np.cumsum(chances) / chances.sum()
            assert text[row, at] == np.searchsorted(edges, numbers[row, at], side="right")


def test_low_temperature_takes_the_likeliest_token() -> None:
    text = write(count=4, length=9, temperature=1e-3)
    with torch.inference_mode():
        best = model()(torch.from_numpy(text.astype(np.int64))).argmax(-1).numpy()
    assert np.array_equal(text[:, 1:], best[:, :-1])


def test_frequencies_match_the_distribution() -> None:
    class Fixed:
        """A cache whose next token is 0, 1 or 2 with chances 0.2, 0, 0.8 whatever came before."""

        device = torch.device("cpu")

        def __init__(self, batch: int, length: int) -> None:
            self.logits = torch.tensor([0.2, 0.0, 0.8]).log().expand(batch, 1, 3)

        def step(self, ids: torch.Tensor) -> torch.Tensor:
            return self.logits

        def reset_(self) -> None:
            pass

    text = generate(Fixed, 3, 64, 64, temperature=1.0)[:, 1:]
    assert abs((text == 0).mean() - 0.2) < 0.03  # 4,032 draws: sd 0.0063
    assert not (text == 1).any()


def test_every_step_counts_its_tokens_up_to_the_total() -> None:
    recorder = Recorder()
    write(count=4, length=5, batch=2, reporter=recorder)
    (stage,) = recorder.stages
    assert (stage.name, stage.total, stage.unit) == ("calibration text", 20, "tokens")
    assert stage.counts == [2] * 10


def test_one_token_needs_no_step() -> None:
    assert write(count=3, length=1).shape == (3, 1)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"count": 0}, "generation count"),
        ({"length": 0}, "generation length"),
        ({"batch": 0}, "generation batch"),
        ({"seed": -1}, "generation seed"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options: dict[str, float], name: str) -> None:
    with pytest.raises(BadConfig, match=name):
        write(**options)


def test_a_model_that_gives_nan_is_refused() -> None:
    broken = GPT(CONFIG).requires_grad_(False)
    broken.blocks[1].mlp.fc.weight[3, 3] = float("nan")
    broken.blocks[1].mlp.proj.weight.fill_(1.0)
    with pytest.raises(BadCheckpoint, match="NaN or infinity in 3 of 3 generated sequences"):
        generate(partial(Cache, broken), 50, 6, 4)
