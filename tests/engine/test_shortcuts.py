"""Shapes by arithmetic, against the kernels that torch itself has for tensors without values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from prunetune.engine.tracing.shapes import SHAPE_FUNCTIONS


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


MASK = torch.bool
CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (torch.Tensor.pow, (meta(2, 3), 2), {}),
    (torch.rsqrt, (meta(4, 1),), {}),
    (torch.sqrt, (meta(4, 1, dtype=torch.float64),), {}),
    (torch.roll, (meta(2, 8, 8, 3),), {"shifts": (1, 1), "dims": (1, 2)}),
    (torch.Tensor.roll, (meta(2, 5), 1, 1), {}),
    (torch.Tensor.masked_fill, (meta(2, 3, 4), meta(3, 1, dtype=MASK), float("-inf")), {}),
    (torch.Tensor.masked_fill, (meta(2, 3, 4), meta(2, 3, 4, dtype=MASK), 0), {}),
    (F.scaled_dot_product_attention, (meta(2, 4, 5, 8), meta(2, 4, 7, 8), meta(2, 4, 7, 6)), {}),
    (F.scaled_dot_product_attention, (meta(2, 5, 8),) * 3, {"is_causal": True, "dropout_p": 0.1}),
    (F.scaled_dot_product_attention, (meta(2, 4, 5, 8),) * 3, {"attn_mask": meta(5, 5)}),
    (F.scaled_dot_product_attention, (meta(2, 4, 5, 8),) * 3, {"attn_mask": meta(2, 1, 1, 5, dtype=MASK)}),
]
MISFITS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (torch.Tensor.masked_fill, (meta(2, 3, 4), meta(5, dtype=MASK), 0.0), {}),
    (F.scaled_dot_product_attention, (meta(2, 4, 5, 8), meta(2, 4, 7, 6), meta(2, 4, 7, 6)), {}),
    (F.scaled_dot_product_attention, (meta(2, 4, 5, 8), meta(2, 4, 7, 8), meta(2, 4, 6, 8)), {}),
    (F.scaled_dot_product_attention, (meta(2, 4, 5, 8),) * 3, {"attn_mask": meta(5, 4)}),
]
NOT_FOR_US: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [  # right, and left to torch
    (torch.Tensor.pow, (meta(2, 3), meta(2, 3)), {}),
    (torch.Tensor.masked_fill, (meta(3, 1), meta(1, 3, dtype=MASK), 0.0), {}),
    (F.scaled_dot_product_attention, (meta(2, 4, 5, 8), meta(2, 2, 5, 8), meta(2, 2, 5, 8)), {"enable_gqa": True}),
    (F.scaled_dot_product_attention, (meta(2, 4, 5, 8), meta(1, 4, 7, 8), meta(1, 4, 7, 8)), {}),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_as_the_kernel(number: int) -> None:
    function, args, kwargs = CALLS[number]
    expected, found = function(*args, **kwargs), SHAPE_FUNCTIONS[function](*args, **kwargs)
    assert found is not None
    assert (found.shape, found.dtype, found.device) == (expected.shape, expected.dtype, expected.device)
    assert found.is_contiguous() == expected.is_contiguous()


@pytest.mark.parametrize("number", range(len(MISFITS)))
def test_what_does_not_fit_is_left_to_the_kernel_which_says_so(number: int) -> None:
    function, args, kwargs = MISFITS[number]
    assert SHAPE_FUNCTIONS[function](*args, **kwargs) is None
    with pytest.raises((RuntimeError, ValueError)):
        function(*args, **kwargs)


@pytest.mark.parametrize("number", range(len(NOT_FOR_US)))
def test_where_it_is_not_sure_it_does_not_answer(number: int) -> None:
    function, args, kwargs = NOT_FOR_US[number]
    assert SHAPE_FUNCTIONS[function](*args, **kwargs) is None
    assert isinstance(function(*args, **kwargs), Tensor)
