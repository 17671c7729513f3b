"""mergekit's YAML files: read as a recipe, and written from a recipe's ratios.

Knows what mergekit 0.1.5 makes of such a file, tensor by tensor. Knows nothing of mergekit's code: it is not installed
with this package, only with its tests, as their oracle.
"""

from vlmmerge.mergekit.read import read_mergekit
from vlmmerge.mergekit.write import write_mergekit

__all__ = ["read_mergekit", "write_mergekit"]
