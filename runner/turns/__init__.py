"""A document's turn: what it has come to, what stops it, how it ends, what is told of it."""
