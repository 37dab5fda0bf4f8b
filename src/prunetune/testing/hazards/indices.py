"""Tensors of indices and masks: graphs, mixtures of experts, tokens that are gathered and put back."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.testing.hazards.common import network, tokens, vectors

EDGES = torch.tensor([[0, 1, 2, 3, 3, 1], [1, 1, 0, 2, 0, 3]])


class Graph(nn.Module):
    """Messages along edges between four nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.message, self.update = nn.Linear(5, 8), nn.Linear(16, 6), nn.Linear(6, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        source, target = EDGES.to(x.device)
        messages = self.message(torch.cat([x[source], x.index_select(0, target)], -1)).relu()
        return self.head(x + self.update(self.collected(x, target, messages)))

    def collected(self, x: Tensor, target: Tensor, messages: Tensor) -> Tensor:
        raise NotImplementedError


@network(vectors)
class MessagesByIndexAdd(Graph):
    def collected(self, x: Tensor, target: Tensor, messages: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], messages.shape[1]).index_add_(0, target, messages)


@network(vectors)
class MessagesByScatterAdd(Graph):
    def collected(self, x: Tensor, target: Tensor, messages: Tensor) -> Tensor:
        index = target.view(-1, 1).expand_as(messages)
        return torch.zeros(x.shape[0], messages.shape[1], dtype=x.dtype, device=x.device).scatter_add_(
            0, index, messages
        )


@network(vectors)
class MessagesByScatterReduce(Graph):
    def collected(self, x: Tensor, target: Tensor, messages: Tensor) -> Tensor:
        index = target[:, None].repeat(1, messages.shape[1])
        zeros = messages.new_zeros(x.shape[0], messages.shape[1])
        return zeros.scatter_reduce(0, index, messages, reduce="mean", include_self=False)


@network(vectors)
class MessagesByIndexReduce(Graph):
    def collected(self, x: Tensor, target: Tensor, messages: Tensor) -> Tensor:
        zeros = messages.new_zeros(x.shape[0], messages.shape[1])
        return zeros.index_reduce(0, target, messages, "amax", include_self=False)


@network(tokens)
class GatheredTokens(nn.Module):
    """As in a masked autoencoder: some tokens are kept, and all put back with a learned one for those that were not."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.embed, self.inner, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.mask_token = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        order = x.sum(-1).argsort(1)
        back = order.argsort(1)
        x = self.embed(x)
        kept = torch.gather(x, 1, order[:, :4].unsqueeze(-1).repeat(1, 1, self.width))
        kept = self.inner(kept).relu()
        filled = torch.cat([kept, self.mask_token.repeat(x.shape[0], x.shape[1] - 4, 1)], 1)
        return self.head(torch.gather(filled, dim=1, index=back.unsqueeze(-1).expand(-1, -1, filled.shape[2])))


@network(tokens)
class TakesAlong(nn.Module):
    """The index comes before the dimension, and its one channel is stretched."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        order = x.sum(-1, keepdim=True).argsort(1)
        return self.head(torch.take_along_dim(self.embed(x), order, 1)[:, :3])


@network(tokens)
class MaskedTokens(nn.Module):
    """Masks over two dimensions, read and written."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.token = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        mask = x.sum(-1) > 0
        x = self.embed(x)
        y = torch.zeros_like(x)
        y[mask] = self.inner(x[mask]).relu()
        y[~mask] = self.token
        return self.head(y)


@network(tokens)
class WritesToViews(nn.Module):
    """Nothing but views is written to; a token comes from another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner, self.head = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x)
        first, rest = tokens[:, 0], tokens.transpose(0, 1)[1:]
        first.copy_(self.inner(x[:, 1]))
        rest.mul_(first.sigmoid())
        return self.head(tokens)


@network(tokens)
class IndicesApart(nn.Module):
    """Two tensors of indices with a slice between them: what they have in common comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).transpose(1, 2)
        samples = torch.arange(x.shape[0], device=x.device)
        return self.head(x[samples[:, None], :, torch.tensor([[4, 1, 0]], device=x.device)])


@network(tokens)
class LoopOverExperts(nn.Module):
    """A mixture of experts as transformers writes it: stacked weights, rows by `where`, sums by `index_add_`."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.router, self.head = nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(8, 3)
        self.up, self.down = nn.Parameter(torch.randn(4, 8, 12)), nn.Parameter(torch.randn(4, 6, 8))

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x)
        rows = x.reshape(-1, x.shape[-1])
        scores, experts = torch.topk(self.router(rows).softmax(-1), 2, dim=-1)
        out = torch.zeros_like(rows)
        mask = F.one_hot(experts, num_classes=4).permute(2, 1, 0)
        for hit in torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero():
            expert = hit[0]
            position, row = torch.where(mask[expert])
            gate, up = (rows[row] @ self.up[expert]).chunk(2, -1)
            out.index_add_(0, row, ((gate.sigmoid() * up) @ self.down[expert]) * scores[row, position, None])
        return self.head((x + out.reshape(x.shape)).relu())


@network(vectors)
class ExpertsLookedUp(nn.Module):
    """One expert a row, whose matrix is looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.router, self.head = nn.Linear(5, 8), nn.Linear(5, 4), nn.Linear(6, 3)
        self.weight, self.bias = nn.Parameter(torch.randn(4, 8, 6)), nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        expert = self.router(x).argmax(-1)
        x = torch.bmm(self.embed(x).relu().unsqueeze(1), self.weight[expert]).squeeze(1) + self.bias[expert]
        return self.head(x.relu())
