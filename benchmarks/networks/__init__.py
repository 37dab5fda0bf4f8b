"""Networks that are hard to prune and that nobody needs by name: for benchmarks and tests."""
