"""Public tables of trainings, on which transfer rules and optimizers are compared; see benchmarks/README.md."""
