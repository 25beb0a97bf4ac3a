"""Whether a document says what was extracted from it, and where: `ground` is the way in."""

from .evidence import Evidence, Ground, How, ground

__all__ = ["Evidence", "Ground", "How", "ground"]
