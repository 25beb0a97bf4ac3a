"""`python -m runner.cli` is the `runner` command."""

from runner.cli import main

main()
