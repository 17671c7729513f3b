"""Which of mergekit's methods is which of ours, and what each takes: parameters, options, and mergekit's defaults.

Knows names and defaults. Does not know formulas.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Counterpart:
    """One of mergekit's methods.

    Args:
        name: Our name for it.
        ratios: Its parameters of a parent, with their defaults. A weight has none: one that is missing is told.
        options: Its parameters of the whole blend, with their defaults.
        needs_base: Whether its `base_model` is the ancestor that task vectors start from.
        elects: Whether it elects signs, and then for a tie takes the positive.
    """

    name: str
    ratios: dict[str, float]
    options: dict[str, Any]
    needs_base: bool = True
    elects: bool = False


def _of_task_vectors(
    name: str, *, elects: bool, normalize: bool = False, rescale: bool = False, **ratios: float
) -> Counterpart:
    options = {"normalize": normalize, "rescale": rescale, "lambda": 1.0}
    return Counterpart(name, {"weight": 0.0, "density": 1.0, **ratios}, options, elects=elects)


COUNTERPARTS: dict[str, Counterpart] = {
    "linear": Counterpart("linear", {"weight": 0.0}, {"normalize": True}, needs_base=False),
    "slerp": Counterpart("slerp", {}, {}, needs_base=False),
    "task_arithmetic": Counterpart("task_arithmetic", {"weight": 0.0}, {"normalize": False, "lambda": 1.0}),
    "ties": _of_task_vectors("ties", elects=True, normalize=True),
    "dare_linear": _of_task_vectors("dare", elects=False, rescale=True),
    "dare_ties": _of_task_vectors("dare_ties", elects=True, rescale=True),
    "breadcrumbs": _of_task_vectors("breadcrumbs", elects=False, gamma=0.01),
    "breadcrumbs_ties": _of_task_vectors("breadcrumbs_ties", elects=True, gamma=0.01),
    "della_linear": _of_task_vectors("della", elects=False, rescale=True, epsilon=0.15),
    "della": _of_task_vectors("della_ties", elects=True, normalize=True, rescale=True, epsilon=0.15),
    "model_stock": Counterpart("model_stock", {}, {"filter_wise": False}),
    "sce": Counterpart("sce", {}, {"select_topk": 1.0}, elects=True),
}
"""By mergekit's name. Defaults are those of mergekit 0.1.5."""
