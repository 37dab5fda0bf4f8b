"""Numbers that remember where they came from: the sizes in a model's code, and what it computes from them.

`SizeProxy` is an int, so that all code works on it as ever. What is linear is followed: sums, multiples, whole parts,
also through a float (`SizeFloat`: `math.floor(c * 0.5)`). What the code asks (`c > 5`, `c == self.width`, `max(c, 4)`)
is written down with its answer, which must stay that. What can't be followed is *pinned*: it must stay what it is.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, Protocol

from torch import fx

from prunetune.engine.tracing.placeholders import asked, pinned

EXACT = 2**20
"""Floats are followed that are a whole number of such parts, which float arithmetic does not round."""

_plain_int = int.__int__
_plain_float = float.__float__


class Listener(Protocol):
    """Who writes down what is computed from sizes."""

    graph: Any
    listening: bool
    """Whether it is the model's own code that runs, and not what it calls."""

    def note_size(self, function: Callable[..., Any], *args: Any) -> None:
        """Add a node about sizes at once."""


class SizeProxy(int):
    """An int that knows the graph node it came from; arithmetic with it is recorded."""

    _listener: Listener
    _graph: fx.Graph | None
    """The graph that it belongs to; None if it outlives them."""
    _make: Callable[[], fx.Node]
    _node: fx.Node | None

    @staticmethod
    def of(
        value: int, listener: Listener, make_node: Callable[[], fx.Node], *, outlives_graphs: bool = False
    ) -> SizeProxy:
        """A number; `make_node` is called when the graph needs it."""
        proxy = SizeProxy(value)
        proxy._listener, proxy._make, proxy._node = listener, make_node, None
        proxy._graph = None if outlives_graphs else listener.graph
        return proxy

    def argument(self, graph: fx.Graph) -> fx.Node | int:
        """What stands for this number in a graph; a plain number if that is another than its own."""
        if self._graph is None:
            return self._make()
        if self._graph is not graph:
            return _plain_int(self)
        if self._node is None:
            self._node = self._make()
        return self._node

    @property
    def heard(self) -> bool:
        """Whether what happens to it now is written down."""
        return self._listener.listening and (self._graph is None or self._graph is self._listener.graph)

    def __deepcopy__(self, memo: dict[int, Any]) -> SizeProxy:
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (_plain_int(self),)

    __hash__ = int.__hash__

    def __int__(self) -> int:
        """A plain int, as `int(c)` always is: what becomes of it is not seen."""
        pin([self], INT)
        return _plain_int(self)

    def __bool__(self) -> bool:
        return bool(_ask(operator.ne, self, 0))

    def __floor__(self) -> SizeProxy:
        return self

    __ceil__ = __trunc__ = __pos__ = __floor__

    def __round__(self, digits: Any = None) -> Any:
        return self if digits is None or digits >= 0 else round(int(self), digits)

    def __neg__(self) -> int:
        return 0 - self

    def __abs__(self) -> int:
        return self if self >= 0 else -self

    def __invert__(self) -> int:
        return -1 - self

    def bit_length(self) -> int:
        return int(_lost(int.bit_length, self))

    def __lshift__(self, other: Any) -> Any:
        return self * 2**other if _is_plain(other) else _lost(operator.lshift, self, other)

    def __rshift__(self, other: Any) -> Any:
        return self // 2**other if _is_plain(other) else _lost(operator.rshift, self, other)

    def __mod__(self, other: Any) -> Any:
        if not isinstance(other, int) or not other:
            return _lost(operator.mod, self, other)
        return self - self // other * other

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other


class SizeFloat(float):
    """A float computed from sizes: `over / under` where that is exact, else known by its sources only."""

    over: SizeProxy | None
    under: int
    sources: tuple[SizeProxy, ...]

    @staticmethod
    def ratio(value: float, over: Any, under: int) -> float:
        """`over / under`, of which `value` is the float."""
        if not isinstance(over, SizeProxy):
            return value
        number = SizeFloat(value)
        number.over, number.under, number.sources = over, under, (over,)
        return number

    @staticmethod
    def lost(value: Any, origins: Iterable[Any]) -> Any:
        """A number that depends on sizes in another way; if it is a float at all."""
        sources = tuple(s for origin in origins for s in sources_of(origin))
        if not isinstance(value, float) or not sources:
            return value
        number = SizeFloat(value)
        number.over, number.under, number.sources = None, 1, sources
        return number

    def __deepcopy__(self, memo: dict[int, Any]) -> SizeFloat:
        return self

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (_plain_float(self),)

    __hash__ = float.__hash__

    def __int__(self) -> int:
        pin([math.trunc(self)], INT)
        return int(_plain_float(self))

    def __bool__(self) -> bool:
        return bool(_ask(operator.ne, self, 0))

    def __floor__(self) -> Any:
        if self.over is None:
            return _lost(math.floor, self)
        return self.over // self.under

    def __ceil__(self) -> Any:
        return -math.floor(-self)

    def __trunc__(self) -> Any:
        return math.floor(self) if self >= 0 else math.ceil(self)

    def __round__(self, digits: Any = None) -> Any:
        value = round(_plain_float(self), digits)
        if digits is not None or _plain_float(self) % 1 == 0.5:  # halves go to the next even number
            return _lost(lambda _: value, self)
        return math.floor(self + 0.5)

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> SizeFloat:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def is_integer(self) -> bool:
        return bool(_lost(float.is_integer, self))


def sources_of(value: Any) -> tuple[SizeProxy, ...]:
    """The sizes that a number was computed from, as far as that is written down now."""
    if isinstance(value, SizeFloat):
        return tuple(s for s in value.sources if s.heard)
    return (value,) if isinstance(value, SizeProxy) and value.heard else ()


COMPUTES = "the code computes with this size"
INT = "int() hides what becomes of this size (c // 2 and math.floor are followed)"


def pin(values: Iterable[Any], how: str = COMPUTES) -> None:
    """What these were computed from must stay as it is: nobody sees what becomes of them."""
    for value in values:
        for size in sources_of(value):
            size._listener.note_size(pinned, size, how)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _is_plain(value: Any) -> bool:
    """Whether it is an int that nothing is known of."""
    return isinstance(value, int) and not isinstance(value, SizeProxy)


def _plain(value: Any) -> Any:
    if isinstance(value, SizeProxy):
        return _plain_int(value)
    return _plain_float(value) if isinstance(value, SizeFloat) else value


def _lost(function: Callable[..., Any], *args: Any) -> Any:
    """A plain result, which nothing that depends on a size follows."""
    if not all(map(_is_number, args)):
        return NotImplemented
    result = function(*map(_plain, args))
    pin(args)
    return result


def _power(function: Callable[..., Any], left: Any, right: Any) -> Any:
    """A power is no size; a root of one is a number that scales values."""
    if not (_is_number(left) and _is_number(right)):
        return NotImplemented
    value = _plain(left) ** _plain(right)
    return SizeFloat.lost(value, (left, right)) if isinstance(value, float) else _lost(function, left, right)


def _size_argument(value: int, graph: fx.Graph) -> fx.Node | int:
    return value.argument(graph) if isinstance(value, SizeProxy) else value


def _whole(function: Callable[[Any, Any], Any], left: int, right: int) -> int:
    """A sum, product or whole part of two integers, as a node where one of them is heard."""
    value = function(_plain(left), _plain(right))
    heard = sources_of(left) or sources_of(right)
    if not heard:
        return int(value)
    listener = heard[0]._listener

    def make_node() -> fx.Node:
        graph = listener.graph
        node: fx.Node = graph.call_function(function, (_size_argument(left, graph), _size_argument(right, graph)))
        return node

    return SizeProxy.of(value, listener, make_node)


def _fraction(value: Any) -> tuple[Any, int] | None:
    """A number as `(over, under)`, if float arithmetic with it is exact."""
    if isinstance(value, SizeFloat):
        return (value.over, value.under) if value.over is not None and _dyadic(value.under) else None
    if isinstance(value, int):
        return value, 1
    if not math.isfinite(value):
        return None
    over, under = value.as_integer_ratio()
    return (over, under) if under <= EXACT else None


def _dyadic(number: int) -> bool:
    return number & (number - 1) == 0 and number <= EXACT


def _real(function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """The same of two numbers of which one is a float."""
    value = function(_plain(left), _plain(right))
    a, b = _fraction(left), _fraction(right)
    if a is not None and b is not None:
        (p, q), (r, s) = a, b
        varies = isinstance(p, SizeProxy), isinstance(r, SizeProxy)
        if function in (operator.add, operator.sub):
            return SizeFloat.ratio(value, function(p * s, r * q), q * s)
        if function is operator.mul and not all(varies):
            return SizeFloat.ratio(value, p * r, q * s)
        if function is operator.truediv and not varies[1]:
            sign = 1 if r > 0 else -1
            return SizeFloat.ratio(value, p * s * sign, q * r * sign)
    return SizeFloat.lost(value, (left, right))


def _arithmetic(function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    if not (_is_number(left) and _is_number(right)):
        return NotImplemented
    if isinstance(left, float) or isinstance(right, float) or function is operator.truediv:
        return _real(function, left, right) if function is not operator.floordiv else _lost(function, left, right)
    return _whole(function, left, right)


_ANSWERS: dict[Any, Callable[[Any, Any], tuple[Any, str, Any]]] = {
    operator.lt: lambda a, b: (a, "<", b),
    operator.gt: lambda a, b: (b, "<", a),
    operator.le: lambda a, b: (a, "<=", b),
    operator.ge: lambda a, b: (b, "<=", a),
    operator.eq: lambda a, b: (a, "==", b),
}
_OPPOSITE = {operator.lt: operator.ge, operator.gt: operator.le, operator.le: operator.gt, operator.ge: operator.lt}


def _ask(relation: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """The answer to a comparison, which must stay that whatever is cut."""
    if not (_is_number(left) and _is_number(right)):
        return NotImplemented
    a, b = _plain(left), _plain(right)
    answer = bool(relation(a, b))
    heard = sources_of(left) or sources_of(right)
    if not heard or left is right:
        return answer
    if relation is operator.ne or (relation is operator.eq and not answer):
        holds = operator.eq if a == b else operator.lt if a < b else operator.gt
    else:
        holds = relation if answer else _OPPOSITE[relation]
    first, sign, second = _ANSWERS[holds](left, right)
    sides = _compared(first, sign, second)
    if sides is None:
        pin((left, right))
    else:
        heard[0]._listener.note_size(asked, sides[0], sign, sides[1])
    return answer


def _compared(first: Any, sign: str, second: Any) -> tuple[Any, Any] | None:
    """Integers that compare as the two numbers do, unless these are known by their sources only."""
    one, other = _over_under(first), _over_under(second)
    if one is None or other is None:
        return None
    (p, q), (r, s) = one, other
    if not isinstance(r, SizeProxy):  # p < q * bound
        bound = Fraction(r, s) * q
        return p, math.floor(bound) if sign == "<=" else math.ceil(bound)
    if not isinstance(p, SizeProxy):
        bound = Fraction(p, q) * s
        return math.floor(bound) if sign == "<" else math.ceil(bound), r
    return p * s, r * q


def _over_under(value: Any) -> tuple[Any, int] | None:
    """As `_fraction`, also of what was divided by any number and so rounded once, which keeps the order."""
    if isinstance(value, SizeFloat):
        return (value.over, value.under) if value.over is not None else None
    if isinstance(value, int):
        return value, 1
    return value.as_integer_ratio() if math.isfinite(value) else None


def _register(kind: type, run: Callable[[Any, Any, Any], Any], *functions: Any, reflected: Sequence[bool]) -> None:
    """Make operators of a kind of numbers out of `run(function, left, right)`."""

    def method(function: Any, backwards: bool) -> Callable[[Any, Any], Any]:
        return lambda self, other: run(function, other, self) if backwards else run(function, self, other)

    for function in functions:
        for backwards in reflected:
            name = f"__{'r' if backwards else ''}{function.__name__.strip('_')}__"
            setattr(kind, name, method(function, backwards))


_BOTH = (False, True)
for _kind in (SizeProxy, SizeFloat):
    _register(
        _kind, _arithmetic, operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv,
        reflected=_BOTH,
    )  # fmt: skip
    _register(_kind, _power, pow, reflected=_BOTH)
    _register(_kind, _lost, operator.mod, divmod, reflected=(True,))
    _register(
        _kind, _ask, operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne, reflected=(False,)
    )
_register(SizeProxy, _lost, operator.and_, operator.or_, operator.xor, reflected=_BOTH)
_register(SizeProxy, _lost, operator.lshift, operator.rshift, reflected=(True,))
_register(SizeFloat, _lost, operator.mod, divmod, reflected=(False,))


class SizeTuple(tuple[int, ...]):
    """The shape of a tensor: like `torch.Size`, which would turn `SizeProxy` into plain int."""

    def numel(self) -> int:
        return functools.reduce(operator.mul, self, 1)

    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        return SizeTuple(item) if isinstance(index, slice) else item
