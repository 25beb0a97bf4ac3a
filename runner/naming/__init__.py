"""Inputs under the ids of their documents, their texts packed as they are stored; no ledger yet."""

from runner.naming.named import Named, name_documents
from runner.naming.namer import Namer
from runner.naming.packed import Packed, pack

__all__ = ["Named", "Namer", "Packed", "name_documents", "pack"]
