"""The recipe file: every key, every default and why, and all faults at once."""

from vlmmerge.recipe.reading import (
    check_names,
    fingerprint_fields,
    load_recipe,
    make_recipe,
    missing_for_blend,
    missing_for_evolve,
    require_for_evolve,
)
from vlmmerge.recipe.sections import (
    METHOD_OPTIONS,
    METHODS_OF_TWO,
    METHODS_WITHOUT_RATIOS,
    SECTIONS,
    Blend,
    EvalsetChoice,
    FixedRatio,
    Generate,
    Guards,
    Ranges,
    Recipe,
    Score,
    Search,
)

__all__ = [
    "METHODS_OF_TWO",
    "METHODS_WITHOUT_RATIOS",
    "METHOD_OPTIONS",
    "SECTIONS",
    "Blend",
    "EvalsetChoice",
    "FixedRatio",
    "Generate",
    "Guards",
    "Ranges",
    "Recipe",
    "Score",
    "Search",
    "check_names",
    "fingerprint_fields",
    "load_recipe",
    "make_recipe",
    "missing_for_blend",
    "missing_for_evolve",
    "require_for_evolve",
]
