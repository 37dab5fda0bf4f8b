"""Operations of random programs: recurrence by cells, over packed sequences, with projections."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from prunetune.testing.fuzzer.operations.layers import layer
from prunetune.testing.fuzzer.programs import Dice, Options, Value


class CellLayer(nn.Module):
    """One step after the other, from no state or one of zeros."""

    def __init__(self, kind: str, width: int, hidden: int, given: bool, bias: bool) -> None:
        super().__init__()
        self.cell, self.given = getattr(nn, kind)(width, hidden, bias), given

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        if self.given:
            zeros = x.new_zeros(x.shape[0], self.cell.hidden_size)
            state = (zeros, zeros) if isinstance(self.cell, nn.LSTMCell) else zeros
        states = []
        for step in x.unbind(1):
            state = self.cell(step, state)
            states.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(states, 1)


def _cell_options(dice: Dice, x: Value) -> Options | None:
    kind = dice.one_of(["LSTMCell", "GRUCell", "RNNCell"])
    return {"kind": kind, "hidden": dice.width("sequence"), "given": dice.chance(0.5), "bias": dice.chance(0.7)}


@layer(("sequence",), _cell_options)
def recurrent_cell(x: Value, kind: str, hidden: int, given: bool, bias: bool) -> nn.Module:
    return CellLayer(kind, x.channels, hidden, given, bias)


class Packed(nn.Module):
    """A recurrent layer over sequences of which the second is shorter, or one whose states are projected."""

    def __init__(self, kind: str, width: int, hidden: int, **options: Any) -> None:
        super().__init__()
        self.packs = options.pop("packed")
        self.inner = getattr(nn, kind)(width, hidden, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        if not self.packs:
            return self.inner(x)[0]
        lengths = torch.tensor([max(1, x.shape[1] - 1)] * (x.shape[0] - 1) + [x.shape[1]], device="cpu")
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.inner(packed)[0], batch_first=True)[0]


def _packed_options(dice: Dice, x: Value) -> Options | None:
    hidden = dice.width("sequence")
    kind = dice.one_of(["LSTM", "LSTM", "GRU", "RNN"])
    projection = dice.one_of(range(1, hidden)) if kind == "LSTM" and hidden > 1 and dice.chance(0.6) else 0
    options = {"kind": kind, "hidden": hidden, "bidirectional": dice.chance(0.3), "num_layers": dice.one_of([1, 1, 2])}
    return {**options, "proj_size": projection, "packed": dice.chance(0.6)}


@layer(("sequence",), _packed_options)
def recurrent_packed(x: Value, kind: str, hidden: int, proj_size: int, **options: Any) -> nn.Module:
    projection = {"proj_size": proj_size} if proj_size else {}
    return Packed(kind, x.channels, hidden, **options, **projection)
