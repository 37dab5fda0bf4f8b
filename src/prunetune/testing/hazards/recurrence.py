"""Recurrent layers beyond one over steps of equal number: packed sequences, projections, cells."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from prunetune.testing.hazards.common import network, tokens


class Packs(nn.Module):
    """Sequences of unequal lengths through a recurrent layer; its outputs and its last state are read."""

    def __init__(self, inner: nn.Module, lengths: tuple[int, int] = (6, 4)) -> None:
        super().__init__()
        self.embed, self.inner, self.head, self.lengths = nn.Linear(5, 8), inner, nn.Linear(6, 3), lengths

    def forward(self, x: Tensor) -> Any:
        lengths = torch.tensor(self.lengths, device="cpu")
        packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=self.lengths[0] == 6)
        out, state = self.inner(packed)
        last = state[0] if isinstance(state, tuple) else state
        return self.head(pad_packed_sequence(out, batch_first=True)[0]), self.head(last[-1])


@network(tokens)
class PackedLstm(Packs):
    def __init__(self) -> None:
        super().__init__(nn.LSTM(8, 6, batch_first=True))


@network(tokens)
class PackedGruUnsorted(Packs):
    def __init__(self) -> None:
        super().__init__(nn.GRU(8, 6, num_layers=2), (4, 6))


@network(tokens)
class ProjectedLstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.inner = nn.LSTM(8, 12, 2, batch_first=True, proj_size=4, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(self.embed(x))[0])


@network(tokens)
class PaddedSequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.embed(x)
        return self.head(pad_sequence([first, second[:4]], batch_first=True))


class Steps(nn.Module):
    """A cell called step by step; the first time without a state."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.embed, self.cell, self.head = nn.Linear(5, 8), cell, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        for step in self.embed(x).unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


@network(tokens)
class LstmCell(Steps):
    def __init__(self) -> None:
        super().__init__(nn.LSTMCell(8, 6))


@network(tokens)
class GruCell(Steps):
    def __init__(self) -> None:
        super().__init__(nn.GRUCell(8, 6))


@network(tokens)
class RnnCellWithoutBias(Steps):
    def __init__(self) -> None:
        super().__init__(nn.RNNCell(8, 6, bias=False))
