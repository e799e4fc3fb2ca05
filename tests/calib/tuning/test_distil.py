"""Distillation: the divergence falls, held weights stay, and threads change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squeeze.calib.statistics.divergence import Categorical, Gaussian
from squeeze.calib.text.sources import Sequences
from squeeze.calib.tuning.answers import Answers
from squeeze.calib.tuning.distil import Course, Trained, distil_
from squeeze.errors import BadData

VOCAB, WIDTH, LENGTH = 23, 12, 16


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Embedding(VOCAB, WIDTH), nn.Tanh(), nn.Linear(WIDTH, VOCAB))


def text(count: int = 12) -> Sequences:
    ids = np.random.default_rng(0).integers(0, VOCAB, (count, LENGTH)).astype(np.uint16)
    return Sequences(ids, "test")


def tuned(student: nn.Module, course: Course, sequences: Sequences) -> float:
    """Train the student's head towards another model's answers."""
    head = student[2].weight  # type: ignore[index]
    answers = answers_of(model(1), sequences)
    return distil_(answers, student, [Trained(head, 0.03)], Categorical(), course).last


def answers_of(teacher: nn.Module, sequences: Sequences) -> Answers:
    return Answers(torch.no_grad()(teacher.forward), sequences)


def test_the_divergence_falls() -> None:
    student = model(2)
    first = tuned(student, Course(1, 64), text())
    head = student[2].weight  # type: ignore[index]
    learnt = distil_(
        answers_of(model(1), text()), student, [Trained(head, 0.03)], Categorical(), Course(150, 64)
    )
    assert 0 < learnt.last < 0.3 * first and learnt.last < 0.5 * learnt.first <= 0.5 * first


def test_a_share_of_the_loss_may_be_the_next_tokens_of_the_text() -> None:
    sequences = text()
    ids = torch.from_numpy(sequences.ids.astype(np.int64))
    nats = {}
    for labels in (0.0, 0.5):
        student = model(1)  # diverges from the first model in nothing
        head = student[2].weight  # type: ignore[index]
        answers = answers_of(model(1), sequences)
        course = Course(40, 64)
        learnt = distil_(
            answers, student, [Trained(head, 0.03)], Categorical(), course, labels=labels
        )
        assert learnt.first == pytest.approx(0, abs=1e-9)  # the divergence alone is told
        assert (learnt.last > 0.01) == bool(labels)
        with torch.no_grad():
            outputs = student(ids)[:, :-1].flatten(0, 1)
        nats[labels] = float(F.cross_entropy(outputs, ids[:, 1:].flatten()))
    assert nats[0.5] < nats[0.0] - 0.05


def test_nothing_but_the_trained_parameters_changes() -> None:
    student, before = model(2), model(2)
    tuned(student, Course(3, 64), text())
    for (name, now), then in zip(student.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(now, then) == (name != "2.weight")
        assert now.grad is None


def test_the_divergence_of_a_batch_is_its_mean_over_tokens() -> None:
    result = tuned(model(2), Course(1, 64), text(4))
    teacher, student = model(1), model(2)
    ids = torch.from_numpy(text(4).ids.astype(np.int64)).flatten()
    mean = Categorical().between(teacher(ids), student(ids)).mean().item()
    assert result == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_number_of_threads_changes_no_bit(threads: int) -> None:
    results = []
    before = torch.get_num_threads()
    try:
        for number in (1, threads):
            torch.set_num_threads(number)
            student = model(2)
            tuned(student, Course(4, 4096), text(200))
            results.append(student[2].weight.detach().clone())  # type: ignore[index,union-attr,operator]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_held_weights_are_put_back_after_every_update() -> None:
    student, teacher = model(2), model(1)
    head = student[2].weight  # type: ignore[index]
    first = head.detach()[:4].clone()  # type: ignore[operator,index]
    updates = []

    def hold() -> None:
        updates.append(head.detach()[:4].clone())  # type: ignore[operator,index]
        head.data[:4] = first  # type: ignore[index]

    answers = answers_of(teacher, text())
    distil_(answers, student, [Trained(head, 0.03)], Categorical(), Course(5, 64), hold)
    assert len(updates) == 5 and not any(torch.equal(each, first) for each in updates)
    assert torch.equal(head.detach()[:4], first)  # type: ignore[operator,index]


def test_hidden_states_are_learnt_by_their_gaussian() -> None:
    teacher, student = model(1), model(2)
    ids = torch.from_numpy(text().ids.astype(np.int64))
    gaussian = Gaussian.of(teacher(ids).detach().flatten(0, 1))
    right = answers_of(teacher, text())
    trained = [Trained(student[2].weight, 0.03)]  # type: ignore[index]
    first = distil_(right, student, trained, gaussian, Course(1, 64)).last
    assert distil_(right, student, trained, gaussian, Course(60, 64)).last < 0.7 * first


def test_outputs_that_are_no_numbers_end_in_one_line() -> None:
    student = model(2)
    student[2].weight.data[0, 0] = torch.nan  # type: ignore[index,union-attr]
    with pytest.raises(BadData, match="not numbers"):
        tuned(student, Course(2, 64), text())


def test_answers_are_kept_up_to_a_number_of_bytes_and_are_those_of_each_sequence_alone() -> None:
    asked = []
    teacher, sequences = model(1), text()

    @torch.no_grad()
    def forward(ids: Tensor) -> Tensor:
        asked.append(len(ids))
        outputs: Tensor = teacher(ids)
        return outputs

    size = 4 * LENGTH * VOCAB
    answers, rows = Answers(forward, sequences, most=3 * size), np.arange(5)
    first = answers.to(rows, torch.device("cpu"))
    again = answers.to(rows, torch.device("cpu"))
    assert asked == [1] * 7 and torch.equal(first, again)
    ids = torch.from_numpy(sequences.ids[:5].astype(np.int64))
    torch.testing.assert_close(first, teacher(ids).detach())
