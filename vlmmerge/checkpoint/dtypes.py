"""The dtypes that can be blended, by their names in files.

Apart from `header.py`, which needs no torch: importing that takes a second and 200 MiB, which `inspect` spares people.
"""

import torch

from vlmmerge.checkpoint.header import BLENDABLE

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, dtype) for name, dtype in BLENDABLE.items()}
