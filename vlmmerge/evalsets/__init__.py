"""Evaluation sets: samples with pictures, a question and references; splits, checksums, and who may see what.

`sample` is what is asked; `manifest` and `split` are what a set says of itself; `rows` makes samples of a table's rows;
`bundled`, `hub` and `own` are where these come from; `likeness` tells like pictures; `sets` puts all together. Knows
nothing of models.
"""

from vlmmerge.evalsets.manifest import BUNDLED, Evalset, find_evalsets
from vlmmerge.evalsets.sample import Sample
from vlmmerge.evalsets.sets import checksum, describe, find_split, known_splits, load, origin, parse_choice
from vlmmerge.evalsets.split import Split

__all__ = [
    "BUNDLED",
    "Evalset",
    "Sample",
    "Split",
    "checksum",
    "describe",
    "find_evalsets",
    "find_split",
    "known_splits",
    "load",
    "origin",
    "parse_choice",
]
