"""A canary: a second prompt version that a share of a batch's documents is asked with."""

from hashlib import blake2b

from pydantic import BaseModel, ConfigDict, Field


class Canary(BaseModel):
    """What a batch pins beside its live version, and which of its documents are asked with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    prompt_id: str
    percent: int = Field(ge=1, le=99)

    def takes(self, text_digest: bytes) -> bool:
        """Whether the document with this digest of its text is asked with the canary.

        Equal texts are on the same side in every batch, and what a canary takes it takes at any
        larger share too. No other sample is drawn by the same hash: it is of 8 bytes, of the digest
        itself, where `keys.part_of_hundred` takes 7 of a name. Drawn by that one, documents would
        change sides within batches that have begun.
        """
        drawn = blake2b(text_digest, digest_size=8, person=b"canary").digest()
        return int.from_bytes(drawn) * 100 < self.percent << 64
