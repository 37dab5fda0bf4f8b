"""From a network to a graph of operations: recording it on tensors without values."""
