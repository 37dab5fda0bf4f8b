"""Tensors that are taken apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.testing.hazards.common import Body, network


@network()
class UnequalChunks(Body):
    def __init__(self) -> None:
        super().__init__(10)
        self.a, self.b, self.c = nn.Conv2d(4, 10, 1), nn.Conv2d(4, 10, 1), nn.Conv2d(2, 10, 1)

    def body(self, x: Tensor) -> Tensor:
        p, q, r = x.chunk(3, 1)
        return self.a(p) + self.b(q) + self.c(r)


@network()
class SplitIntoSections(Body):
    def __init__(self) -> None:
        super().__init__(10)
        self.sizes = (4, 6)
        self.a, self.b = nn.Conv2d(4, 10, 1), nn.Conv2d(6, 10, 1)

    def body(self, x: Tensor) -> Tensor:
        p, q = torch.split(x, self.sizes, 1)  # type: ignore[arg-type]  # a tuple is what people give
        return self.a(p) + self.b(q)


@network()
class C2f(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.c = 4
        self.cv1, self.cv2 = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 8, 1)
        self.m = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))

    def body(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).split((self.c, self.c), 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


@network()
class C2fByChunk(C2f):
    def body(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


@network()
class Slices(Body):
    def __init__(self) -> None:
        super().__init__(8, 5)
        self.a = nn.Conv2d(3, 5, 1)

    def body(self, x: Tensor) -> Tensor:
        return x[:, 3:] + self.a(x[:, :3])


@network()
class IndexSelect(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.Conv2d(8, 8, 1)
        self.order: Tensor
        self.register_buffer("order", torch.tensor([7, 0, 6, 1, 5, 2, 4, 3]))

    def body(self, x: Tensor) -> Tensor:
        return self.a(x).relu() + x.index_select(1, self.order)


@network()
class Flip(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.Conv2d(8, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return x + self.a(x).flip(1)


@network()
class Roll(Body):
    def __init__(self) -> None:
        super().__init__(8)
        self.a = nn.Conv2d(8, 8, 1)

    def body(self, x: Tensor) -> Tensor:
        return self.a(x).relu() + x.roll(2, 1)


@network()
class RepeatInterleave(Body):
    def __init__(self) -> None:
        super().__init__(6, 12)

    def body(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, dim=1)


@network()
class Glu(Body):
    def __init__(self) -> None:
        super().__init__(6)
        self.a = nn.Conv2d(6, 12, 1)

    def body(self, x: Tensor) -> Tensor:
        return F.glu(self.a(x), 1)
