"""Servers that the runner starts by itself, shared by all commands of a home."""
