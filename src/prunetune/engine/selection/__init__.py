"""Which channels stay: the ranking, the budget, layers by name."""
