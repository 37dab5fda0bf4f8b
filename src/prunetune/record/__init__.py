"""What a run leaves: its folder, ``result.json`` typed once, and what is said of it."""
