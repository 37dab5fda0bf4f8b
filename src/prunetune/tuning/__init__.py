"""What ``tune``, ``check``, ``compare`` and ``work`` are made of: the problem, and one training of one network."""
