"""The test provider: a real server process with its own book, and documents to send to it.

It is the oracle of the tests, so it shares no arithmetic and no code with the runner. Start it with
`python -m runner.testing`, or from Python with `ProviderProcess`.
"""

from .book import Entry, Prices, Summary, Tokens
from .chat_request import document_key
from .control import ProviderError, ProviderProcess
from .documents import GeneratedDocument, generate_documents, generate_invoices
from .faults import FAULTS, FaultPlan, Rule

__all__ = [
    "FAULTS",
    "Entry",
    "FaultPlan",
    "GeneratedDocument",
    "Prices",
    "ProviderError",
    "ProviderProcess",
    "Rule",
    "Summary",
    "Tokens",
    "document_key",
    "generate_documents",
    "generate_invoices",
]
