"""Samplers: which hyperparameters are tried next."""
