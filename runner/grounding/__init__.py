"""Whether a document says what was extracted from it, and where: `ground` is the way in."""

from .evidence import Ground, ground

__all__ = ["Ground", "ground"]
