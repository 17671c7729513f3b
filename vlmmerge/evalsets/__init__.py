"""Evaluation sets: samples with pictures, a question and references; splits, checksums, and who may see what.

`sample` is what is asked; `manifest` what a set says of itself; `rows` makes samples of a table's rows; `bundled` and
`hub` are where tables come from; `sets` puts them together. Knows nothing of models.
"""

from vlmmerge.evalsets.manifest import BUNDLED, Evalset, Split, find_evalsets
from vlmmerge.evalsets.sample import Sample
from vlmmerge.evalsets.sets import checksum, describe, find_split, load, origin

__all__ = [
    "BUNDLED",
    "Evalset",
    "Sample",
    "Split",
    "checksum",
    "describe",
    "find_evalsets",
    "find_split",
    "load",
    "origin",
]
