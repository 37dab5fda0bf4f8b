"""``[compare]`` of a configuration."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from prunetune.section import Section

Names = Annotated[tuple[str, ...], Field(strict=False)]


class Compare(Section):
    """``[compare]``: what ``prunetune compare`` compares, see ``prunetune.Comparison``.

    The proxy of a ``[pruning]`` that the file has is compared, too, as "configured"; ``smaller`` are models of the zoo.
    """

    scorers: Names = ("synflow", "uniform")
    sizes: Annotated[tuple[Any, ...], Field(strict=False)] = (0.1,)  # numbers and "paper"
    transfers: Names = ("mup",)
    optimizers: Names = ("random",)
    rivals: Names = ("fewer-epochs", "less-data")
    smaller: Names = ()
    configurations: int = Field(default=24, ge=4, le=4096)
    seeds: int = Field(default=3, ge=1, le=1024)
    truth_seeds: int = Field(default=2, ge=1, le=1024)
    confirm: int = Field(default=3, ge=1, le=1024)
    cost: float | None = Field(default=None, gt=0, le=1)

    def settings(self) -> dict[str, Any]:
        """What of it is a setting of ``prunetune.Comparison``, as far as it is given."""
        return self.model_dump(exclude={"smaller"}, exclude_none=True)
