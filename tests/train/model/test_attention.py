"""Every kernel gives what softmax attention is defined as, within documents and windows."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from squeeze.train.model import attention
from squeeze.train.model import flex as flex_module
from squeeze.train.model.attention import (
    Attend,
    Reach,
    Rule,
    attention_within,
    causal_attention,
    document_bounds,
    document_starts,
    first_seen,
    masked_attention,
    plain_attention,
    reach_of,
    visible,
    whole_attention,
)
from squeeze.train.model.flex import flex, flex_blocks

BOS = 1
NO_CUDA = "needs a CUDA device"


def naive_mask(ids: Tensor, documents: bool, window: int) -> Tensor:
    """Whether token t of a row sees token s, by its definition, position by position."""
    batch, length = ids.shape
    mask = torch.zeros(batch, length, length, dtype=torch.bool)
    for row in range(batch):
        for t in range(length):
            for s in range(t + 1):
                parted = bool((ids[row, s + 1 : t + 1] == BOS).any())
                near = not window or t - s < window
                mask[row, t, s] = near and not (documents and parted)
    return mask


def inputs(
    batch: int, length: int, heads: int, kv: int, device: str = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(batch, n, length, 8, generator=generator) for n in (heads, kv, kv))
    return q.to(device), k.to(device), v.to(device)


def attention_over(ids: Tensor, *, documents: bool, window: int, dtype: torch.dtype) -> Attend:
    return attention_within(reach_of(Rule(BOS, documents, window), ids, dtype), window, ids, dtype)


tokens = st.lists(st.integers(0, 4), min_size=12, max_size=12)


@settings(max_examples=30)
@given(st.tuples(tokens, tokens), st.booleans(), st.integers(0, 13), st.sampled_from([1, 2, 4]))
def test_attention_is_softmax_over_what_is_visible(
    rows: tuple[list[int], ...], documents: bool, window: int, kv: int
) -> None:
    ids, (q, k, v) = torch.tensor(rows), inputs(2, 12, 4, kv)
    attend = attention_over(ids, documents=documents, window=window, dtype=torch.float32)
    wanted = plain_attention(q, k, v, naive_mask(ids, documents, window))
    torch.testing.assert_close(attend(q, k, v), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("window", [0, 3])
def test_flex_attention_agrees_where_it_only_explains_itself(documents: bool, window: int) -> None:
    # on a CPU and uncompiled it computes by its definition; the mask is what is tested
    ids, (q, k, v) = (
        torch.tensor([[1, 5, 6, 1, 1, 4, 3, 2], [4, 3, 2, 5, 1, 2, 6, 7]]),
        inputs(2, 8, 4, 2),
    )
    positions = torch.arange(8)
    starts = document_starts(ids, BOS) if documents else None
    blocks = flex_blocks(first_seen(starts, positions, window).expand_as(ids))
    wanted = plain_attention(q, k, v, naive_mask(ids, documents, window))
    found = flex(q, k, v, blocks, torch.float32)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=23, max_size=23), min_size=1, max_size=3),
    st.integers(1, 23),
    st.integers(0, 9),
    st.integers(0, 7),
    st.booleans(),
)
def test_blocks_of_corners_are_those_of_all_pairs(
    rows: list[list[int]], length: int, window: int, cut: int, documents: bool
) -> None:
    ids, side = torch.tensor(rows)[:, :length], 4
    starts = document_starts(ids, BOS, cut) if documents else None
    first = first_seen(starts, torch.arange(length), window).expand_as(ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex_module, "SIDE", side)
        ours = flex_blocks(first)
    plain = create_block_mask(ours.mask_mod, len(ids), None, length, length, "cpu", side)
    assert ours.seq_lengths == plain.seq_lengths and ours.BLOCK_SIZE == plain.BLOCK_SIZE
    for numbers in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(ours, numbers), getattr(plain, numbers))
    for indices in ("kv_indices", "full_kv_indices", "q_indices", "full_q_indices"):
        assert torch.equal(getattr(ours, indices), getattr(plain, indices))


def test_without_documents_or_window_no_mask_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "visible", None)
    ids = torch.tensor([[1, 2, 1, 3]])
    for window in (0, 4, 9):  # a window as long as the row hides nothing
        attend = attention_over(ids, documents=False, window=window, dtype=torch.float32)
        assert attend is causal_attention


def test_document_starts_and_bounds() -> None:
    ids = torch.tensor([[5, 1, 6, 7, 1, 1], [1, 2, 3, 4, 5, 6]])
    starts = document_starts(ids, BOS)
    assert starts.tolist() == [[0, 1, 1, 1, 4, 5], [0] * 6]
    assert document_bounds(starts).tolist() == [0, 1, 4, 5, 6, *[12] * 59]
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 1, 2, 3]])
    assert document_starts(ids, BOS, cut=3).tolist() == [[0, 0, 0, 3, 3, 3, 6, 7, 7, 7]]


def test_bounds_of_like_batches_have_one_length() -> None:
    lengths = set()
    for documents in (1, 3, 9, 40):
        ids = torch.full((2, 512), 5)
        ids[:, :documents] = BOS
        bounds = document_bounds(document_starts(ids, BOS))
        assert bounds[: 2 * documents].tolist() == [
            row + at for row in (0, 512) for at in range(documents)
        ]
        assert (bounds[2 * documents :] == 1024).all() and bounds.dtype == torch.int32
        lengths.add(len(bounds))
    assert lengths == {64, 128}  # a unit, and two for eighty documents


def test_gradients_agree_with_those_of_the_definition() -> None:
    ids, parts = torch.tensor([[1, 5, 6, 1, 1, 4, 3, 2]]), inputs(1, 8, 4, 2)
    mask = naive_mask(ids, True, 3)
    gradients = []
    for attend in (plain_attention, masked_attention):
        leaves = [part.clone().requires_grad_() for part in parts]
        attend(*leaves, mask).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_visible_takes_queries_that_are_the_last_of_many_keys() -> None:
    queries, keys = torch.tensor([4, 5]), torch.arange(6)
    mask = visible(torch.tensor([[2, 5]]), queries, keys)
    assert mask.tolist() == [[[0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CUDA)
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("window", [0, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", ["flex", "flash"])
def test_kernels_on_cuda(
    documents: bool,
    window: int,
    dtype: torch.dtype,
    kernel: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kernel == "flash" and attention.flash is None:
        pytest.skip("FlashAttention-3 (flash_attn_interface) is not installed")
    if kernel == "flash" and torch.cuda.get_device_capability()[0] != attention.HOPPER:
        pytest.skip("FlashAttention-3 runs on Hopper alone")
    if kernel == "flex":
        monkeypatch.setattr(attention, "flash", None)
    ids = torch.randint(0, 40, (2, 256), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 256, 64, generator=generator) for n in (4, 2, 2))
    attend = attention_over(ids.cuda(), documents=documents, window=window, dtype=dtype)
    found = attend(q.cuda().to(dtype), k.cuda().to(dtype), v.cuda().to(dtype)).cpu().float()
    wanted = plain_attention(q, k, v, naive_mask(ids, documents, window))
    close = 2e-2 if dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(found, wanted, atol=close, rtol=close)


class Reference:
    """Stands in for FlashAttention-3: the same calls, answered by the definition."""

    @staticmethod
    def flash_attn_func(q, k, v, causal, window_size):  # type: ignore[no-untyped-def]
        bounds = torch.arange(0, q.size(0) * q.size(1) + 1, q.size(1))
        flat = (x.flatten(0, 1) for x in (q, k, v))
        out = Reference.flash_attn_varlen_func(*flat, cu_seqlens_q=bounds, causal=causal,
                                               window_size=window_size)  # fmt: skip
        return out.unflatten(0, q.shape[:2])

    @staticmethod
    def flash_attn_varlen_func(q, k, v, cu_seqlens_q, causal, window_size, **_):  # type: ignore[no-untyped-def]
        assert causal
        out = []
        for start, stop in zip(cu_seqlens_q[:-1].tolist(), cu_seqlens_q[1:].tolist(), strict=True):
            if start == stop:
                continue
            rows = (x[None, start:stop].transpose(1, 2) for x in (q, k, v))
            at = torch.arange(stop - start)
            mask = at <= at[:, None]
            if window_size[0] >= 0:
                mask &= at >= at[:, None] - window_size[0]
            out.append(plain_attention(*rows, mask[None]).transpose(1, 2)[0])
        return torch.cat(out)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("window", [0, 3])
def test_calls_of_flash_attention_mean_what_is_asked_for(
    documents: bool, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "flash", Reference)
    ids, (q, k, v) = (
        torch.tensor([[1, 5, 6, 1, 1, 4, 3, 2], [4, 3, 2, 5, 1, 2, 6, 7]]),
        inputs(2, 8, 4, 2),
    )
    if documents:
        bounds = document_bounds(document_starts(ids, BOS))
        found = attention._flash_documents(q, k, v, bounds, 8, window, torch.float32)
    else:
        found = attention._flash_rows(q, k, v, window, torch.float32)
    wanted = plain_attention(q, k, v, naive_mask(ids, documents, window))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


class OnGpu(torch.Tensor):
    """Stands in for a tensor of a GPU; it has no values."""

    is_cuda = True


@pytest.mark.parametrize(
    ("capability", "runs"),
    [((8, 0), False), ((8, 9), False), ((9, 0), True), ((10, 0), False), ((12, 0), False)],
)
def test_flash_attention_is_used_on_the_gpus_that_it_is_made_for(
    capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    major, minor = capability
    properties = SimpleNamespace(major=major, minor=minor)
    monkeypatch.setattr(attention, "flash", Reference)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(attention, "flex_blocks", lambda first: "blocks")
    gpu = torch.zeros(1, 8, dtype=torch.int64, device="meta").as_subclass(OnGpu)
    half, window = torch.bfloat16, Rule(BOS, False, window=4)
    assert attention.runs_flash(gpu, half) == runs
    assert not attention.runs_flash(gpu, torch.float32)
    assert not attention.runs_flash(torch.zeros(1, 8), half)
    # a window of rows is no mask where FlashAttention reads it
    assert reach_of(window, gpu, half) == (Reach() if runs else Reach(blocks="blocks"))
    assert (whole_attention(0, gpu, half) is causal_attention) == (not runs)


@pytest.mark.skipif(
    importlib.util.find_spec("flash_attn_interface") is None,
    reason="FlashAttention-3 (flash_attn_interface) is not installed",
)
def test_flash_attention_is_used_where_it_is_installed() -> None:
    assert attention.flash is not None
