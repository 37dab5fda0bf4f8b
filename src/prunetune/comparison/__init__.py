"""Comparison of proxies, optimizers and rivals at equal cost on one network and dataset; ``prunetune.compare``."""
