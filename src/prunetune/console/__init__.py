"""What the terminal shows: progress while something runs, tables at its end."""
