"""The pydantic models of the records that jobs extract; one file a document kind."""
