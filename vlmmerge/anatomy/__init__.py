"""Which tensor is which: towers, slots, how the parents' slots and vocabularies pair."""

from vlmmerge.anatomy.pairing import KEEP_EMBEDDINGS, VISION, Anatomy, layout_of, study
from vlmmerge.anatomy.slots import EMBEDDINGS, HEAD, Slot
from vlmmerge.anatomy.towers import language_tower, pair

__all__ = [
    "EMBEDDINGS",
    "HEAD",
    "KEEP_EMBEDDINGS",
    "VISION",
    "Anatomy",
    "Slot",
    "language_tower",
    "layout_of",
    "pair",
    "study",
]
