"""The options that hold for a whole blend.

Knows their names and ranges. Does not know which method uses which (`methods.METHODS`).
"""

import math
from dataclasses import dataclass
from typing import Literal

from vlmmerge.errors import VlmMergeError


@dataclass(frozen=True)
class Options:
    """What holds for the whole blend, by the field's names; each method uses those that its line in `METHODS` names.

    Args:
        normalize: Divide the blended task vectors by the sum of the weights (after an election: of those that agree).
            None is the method's own: `linear` divides, no other does.
        rescale: Make up for what was made zero. True: DARE and DELLA divide by the probability of being kept, TIES and
            Breadcrumbs keep each task vector's L1 norm. `l1`: all of them keep that norm. None is the method's own:
            True for DARE and DELLA, False for the others.
        lambda_: Factor on the blended task vectors; `lambda` in a recipe.
        majority_sign_method: `total` elects the sign of the sum, `frequency` the sign that more parents have.
        majority_sign_tie: Where neither sign wins, `drop` adds nothing, `positive` adds what is positive.
        select_topk: Fraction of the elements in which the parents vary that `sce` blends, in (0, 1].
        filter_wise: Let `model_stock` interpolate each row by itself, not the slot as one.

    Raises:
        VlmMergeError: A value out of range.
    """

    normalize: bool | None = None
    rescale: bool | Literal["l1"] | None = None
    lambda_: float = 1.0
    majority_sign_method: Literal["total", "frequency"] = "total"
    majority_sign_tie: Literal["drop", "positive"] = "drop"
    select_topk: float = 1.0
    filter_wise: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lambda_) and 0.0 < self.select_topk <= 1.0):
            raise VlmMergeError(
                f"no such options: lambda {self.lambda_}, select_topk {self.select_topk}",
                hint="lambda is a finite number; select_topk is above 0 and at most 1",
            )


DEFAULTS = Options()
