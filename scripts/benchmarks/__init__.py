"""Benchmarks; each is started by a command in `scripts/`."""
