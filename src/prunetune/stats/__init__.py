"""Statistics: rank correlation, the bootstrap."""
