"""Trial pruners: which trial is worth finishing."""
