"""What random programs are made of, one file a family; importing it registers them all."""

from prunetune.testing.fuzzer.operations import (
    attention,
    blocks,
    computed,
    functions,
    indices,
    layers,
    numbers,
    recurrent,
    shapes,
)

__all__ = ["attention", "blocks", "computed", "functions", "indices", "layers", "numbers", "recurrent", "shapes"]
