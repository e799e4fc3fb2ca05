"""The stateful protocol: fed token by token, a model says what it says when it reads whole windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from squeeze.errors import BadConfig, BadData
from squeeze.score.predictor import ENDED, CachedPredictor
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

CONFIG = ModelConfig(50, 3, 16, 2, 1, 16, seq_len=8)


def random_model(seed: int = 0) -> GPT:
    random = np.random.default_rng(seed)
    shapes = CONFIG.parameter_shapes().items()
    return GPT.from_tensors(
        CONFIG, {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes}
    )


def whole(model: GPT, tokens: np.ndarray, start: int) -> np.ndarray:
    """Logits after the last of tokens, read from start on at once."""
    with torch.no_grad():
        return model(torch.from_numpy(tokens[None, start:]))[0, -1].numpy()


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_every_step_is_the_full_forward_of_its_window(stride: int) -> None:
    model, tokens = random_model(), np.random.default_rng(1).integers(1, 50, (2, 30))
    predictor = CachedPredictor(model, stride=stride)
    predictor.start(2)
    for i in range(30):
        logits = predictor.next(tokens[:, i])
        assert logits.shape == (2, 50) and logits.dtype == np.float32
        start = 0 if i < 8 else -(-(i - 7) // stride) * stride
        for row in range(2):
            expected = whole(model, tokens[row, : i + 1], start)
            np.testing.assert_allclose(logits[row], expected, atol=2e-5)


def test_an_ended_document_does_not_touch_the_others() -> None:
    model, tokens = random_model(), np.random.default_rng(2).integers(1, 50, (2, 12))
    short = tokens.copy()
    short[1, 5:] = ENDED
    answers = []
    for fed in (tokens, short):
        predictor = CachedPredictor(model)
        predictor.start(2)
        answers.append(np.stack([predictor.next(column) for column in fed.T]))
    assert np.array_equal(answers[0][:, 0], answers[1][:, 0])
    assert np.array_equal(answers[0][:5, 1], answers[1][:5, 1])


def test_start_forgets_the_document_before() -> None:
    predictor = CachedPredictor(random_model())
    answers = []
    for _ in range(2):
        predictor.start(1)
        answers.append(np.stack([predictor.next(np.array([t])) for t in (1, 7, 9)]))
    assert np.array_equal(*answers)


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_outside_the_window_is_refused(stride: int) -> None:
    with pytest.raises(BadConfig, match="stride; expected 1 to the length, 8"):
        CachedPredictor(random_model(), stride=stride)


@pytest.mark.parametrize("tokens", [[1], [1, 50], [1, -2], [1, 2, 3]])
def test_tokens_that_cannot_be_fed_are_refused(tokens: list[int]) -> None:
    predictor = CachedPredictor(random_model())
    predictor.start(2)
    with pytest.raises(BadData, match="tokens to feed"):
        predictor.next(np.array(tokens))


def test_a_document_does_not_go_on_after_its_end() -> None:
    predictor = CachedPredictor(random_model())
    predictor.start(1)
    predictor.next(np.array([1]))
    predictor.next(np.array([ENDED]))
    with pytest.raises(BadData, match="from a document's end on"):
        predictor.next(np.array([3]))
