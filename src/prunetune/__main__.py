"""``python -m prunetune`` is the command ``prunetune``."""

from prunetune.cli import main

main()
