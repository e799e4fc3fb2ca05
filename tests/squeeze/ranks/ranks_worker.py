"""One rank of test_group: what each call gives on this rank, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from squeeze.ranks.connect import connected
from squeeze.ranks.group import Ranks
from squeeze.ranks.ordered import OrderedSum
from squeeze.ranks.result import result_of_first
from tests.group_threads import threads_left


def answers(ranks: Ranks) -> dict[str, object]:
    """Return the result of every call that needs the other ranks, or none."""
    own = torch.tensor([[ranks.rank + 1.0, 2.0]])
    return {
        "first": ranks.first,
        "dealt": list(ranks.deal(range(5))),
        "sum": ranks.summed_(own.clone()).tolist(),
        "gathered": ranks.gathered(own).tolist(),
        "shares": shares_of(ranks),
        "exchanged": ranks.exchanged(torch.arange(float(ranks.world)) + 10 * ranks.rank).tolist(),
        "ordered": [ordered(ranks, stop) for stop in (0, 1)],
        "from_first": ranks.from_first(7.5 + ranks.rank),
        "on_all": [ranks.on_all(True), ranks.on_all(ranks.first), ranks.on_all(False)],
        "result": result_of_first(ranks, lambda: f"from rank {ranks.rank}"),
        "failure": failure_of(ranks),
    }


def shares_of(ranks: Ranks) -> list[float]:
    """Return this rank's share of a sum, which a run of one leaves where it is."""
    whole, share = torch.arange(1.0, 1.0 + ranks.world), torch.zeros(1)
    ranks.sum_shares(whole, share)()
    return (share if ranks.world > 1 else whole).tolist()


def ordered(ranks: Ranks, stop: int) -> bool:
    """Return whether pieces in turn have the sums of one process, to the bit.

    stop: rounds after which the sums are taken over by another object, as after an interruption
    """
    shapes, generator = [(2, 3), (5,), ()], torch.Generator().manual_seed(0)
    pieces = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(7)]
    expected = [torch.zeros(shape) for shape in shapes]
    for piece in pieces:
        expected = [total + part for total, part in zip(expected, piece, strict=True)]
    own = list(ranks.deal(pieces))
    total = OrderedSum(ranks, shapes, ranks.device)
    for number in range(-(-len(pieces) // ranks.world)):
        if number == stop:
            flat, total = total.flat(), OrderedSum(ranks, shapes, ranks.device)
            total.load_(flat)
        total.add_(own[number] if number < len(own) else None)
    return all(torch.equal(*pair) for pair in zip(total.tensors(), expected, strict=True))


def failure_of(ranks: Ranks) -> str:
    """Return the error that work of the first rank ends with, as this rank sees it."""
    try:
        result_of_first(ranks, lambda: 1 // ranks.rank)
    except ZeroDivisionError as error:
        return str(error)
    return ""


def main(folder: Path, backend: str) -> None:
    """Answer as a rank of the environment, once in the group itself and once in a nested use of it.

    backend: of a group that exists before; "": none does
    """
    cpu = torch.device("cpu")
    if backend:
        dist.init_process_group(backend)
    with connected(cpu) as ranks:
        with connected(cpu) as nested:
            assert nested == Ranks.current() == ranks
        facts = answers(Ranks.current())  # the group outlives a nested use
    if backend:
        assert Ranks.current() == ranks
        dist.destroy_process_group()
    assert Ranks.current() == Ranks()
    assert not [name for name in threads_left() if "gloo" in name]
    (folder / f"{ranks.rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
