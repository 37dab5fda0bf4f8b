"""Studies: trials that are claimed, run, judged and recorded, whoever dies."""
