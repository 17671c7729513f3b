"""What `vlmmerge inspect` tells: what parents are made of, whether they fit, by how much they differ."""

from vlmmerge.inspection.overview import Inspection, describe, inspect

__all__ = ["Inspection", "describe", "inspect"]
