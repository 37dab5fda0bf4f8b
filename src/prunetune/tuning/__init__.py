"""``tune`` and ``work``, and what ``check`` and ``compare`` share with them: the problem, one training of a network."""
