"""The oracle of the fuzzer: writes in place leave what is gone as it is, and reach whoever sees the same memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prunetune.testing.presence.tensors import Mismatch, compact, mask_of, present, value_of

GAP = torch.tensor([True, False, True])


def gapped(*rows: list[float]) -> Tensor:
    """Rows of which the middle is gone."""
    values = torch.tensor(rows, dtype=torch.float64)
    return present(values, GAP.expand(values.shape).clone(), "a test")


def _row(x: Tensor) -> None:
    x[0] = x[1]


def _masked(x: Tensor) -> None:
    x[torch.tensor([True, False])] = x[torch.tensor([False, True])]


def _number(x: Tensor) -> None:
    x[0] = 2.5


def _itself(x: Tensor) -> None:
    x[:] = x


def _swapped(x: Tensor) -> None:
    x[[0, 1]] = x[[1, 0]]


def _view(x: Tensor) -> None:
    x[0].zero_()


def _view_of_view(x: Tensor) -> None:
    x.transpose(0, 1).reshape(3, 2)[..., 1].copy_(x[0])


def _all_but_the_first(x: Tensor) -> None:
    first = x[1]
    x.add_(x)
    first.sub_(1)


WRITES: list[tuple[Callable[[Tensor], object], list[list[float]]]] = [
    (_row, [[5, 9], [5, 9]]),
    (_masked, [[5, 9], [5, 9]]),
    (_number, [[2.5, 2.5], [5, 9]]),
    (_itself, [[1, 3], [5, 9]]),
    (_swapped, [[5, 9], [1, 3]]),
    (_view, [[0, 0], [5, 9]]),
    (_view_of_view, [[1, 3], [1, 3]]),
    (_all_but_the_first, [[2, 6], [9, 17]]),
    (lambda x: x.mul_(x), [[1, 9], [25, 81]]),
    (lambda x: x.pow_(0), [[1, 1], [1, 1]]),
    (lambda x: x.sign_(), [[1, 1], [1, 1]]),
    (lambda x: x.fill_(4.0), [[4, 4], [4, 4]]),
    (lambda x: x.masked_fill_(torch.tensor([[True], [False]]), 7.0), [[7, 7], [5, 9]]),
    (lambda x: x.index_add_(0, torch.tensor([0]), x[1:]), [[6, 12], [5, 9]]),
    (lambda x: x.scatter_(0, torch.zeros(1, 3, dtype=torch.int64), x[1:]), [[5, 9], [5, 9]]),
]


@pytest.mark.parametrize(("write", "expected"), WRITES)
def test_a_write_fills_no_gap(write: Callable[[Tensor], object], expected: list[list[float]]) -> None:
    x = gapped([1, 2, 3], [5, 7, 9])
    write(x)
    assert compact(x).tolist() == expected
    assert value_of(x)[~mask_of(x)].isnan().all()


@pytest.mark.parametrize("write", [write for write, _ in WRITES])
def test_what_normalises_sees_no_gap_after_a_write(write: Callable[[Tensor], object]) -> None:
    """Row by row two numbers are there: they become -1 and 1, or 0 and 0, and their variance is known."""
    x = gapped([1, 2, 3], [5, 7, 9])
    write(x)
    a, b = compact(x).unbind(1)
    assert compact(nn.functional.layer_norm(x, (3,), eps=1e-30)).tolist() == [
        [float(i < j) * -1 or 0.0, float(i < j)] for i, j in zip(a, b, strict=True)
    ]
    assert compact(x.var(1)).tolist() == ((a - b).square() / 2).tolist()


def test_what_has_no_place_is_a_mismatch() -> None:
    x = gapped([1, 2, 3], [5, 7, 9])
    with pytest.raises(Mismatch):
        x[0] = torch.ones(3, dtype=torch.float64)
    with pytest.raises(Mismatch):
        x.add_(torch.ones(3, dtype=torch.float64))
