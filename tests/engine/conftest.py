"""The fuzzer's modules register operations when they are imported, under their own names: not once more by pytest."""

collect_ignore_glob = ["fuzz*.py", "presence*.py"]
