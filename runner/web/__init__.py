"""The dashboard: the ledger as pages for a browser, and the few things that a person does there."""
