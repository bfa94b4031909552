"""`python -m bohdi`: the command where its script is not on the path."""

from bohdi.cli import main

main()
