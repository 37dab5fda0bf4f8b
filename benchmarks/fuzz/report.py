"""The findings for people."""

from __future__ import annotations

from typing import Any


def text(record: dict[str, Any]) -> str:
    """The findings of networks for people."""
    networks, operations = record["networks"], sorted(record["operations"].items(), key=lambda item: item[1])
    rarest = ", ".join(f"{name} {count:,}" for name, count in operations[:3])
    lines = [
        f"networks    {networks:,} in {record['seconds']:.0f} s, {record['cut']:,} of them with something cut",
        f"mismatches  {record['mismatches']:,} (outputs relative to 1e-5 or their largest, {record['tolerance']:g})",
        f"discarded   {record['discarded']:,} that torch itself refuses to run",
        f"units       {record['units']:,}, of which {record['units_removed']:,} were removed",
        f"operations  {len(operations)}; the rarest: {rarest or 'none'} networks",
        *(f"unused      {name}" for name in record["operations_unused"]),
        "frozen, by how many networks:",
        *(f"  {count:>6,}  {reason}" for reason, count in list(record["frozen"].items())[:25]),
    ]
    return "\n".join(lines)


def lines_of(record: dict[str, Any]) -> str:
    """The findings of forward functions for people."""
    return "\n".join(f"{name:<18} {value}" for name, value in record.items() if name not in ("kinds", "failures"))
