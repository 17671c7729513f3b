"""The gate before a swap is written: old and new eyes answer an evalset, and too great a loss is refused.

Knows two folders and an evalset. Does not know how the new eyes were made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmmerge.ask import Questions, evaluate_models
from vlmmerge.errors import RunError
from vlmmerge.evalsets import find_split
from vlmmerge.recipe import EvalsetChoice, Generate

OLD, NEW = "old eyes", "new eyes"
DEFAULT_MAX_LOSS = 0.15


@dataclass(frozen=True)
class Gate:
    """What new eyes must come up to.

    Args:
        choice: What both are asked.
        settings: How.
        max_loss: The share of the old eyes' score that may be lost, by the evalset's first metric: 0 to 1.
        is_forced: Whether greater losses pass, too.
    """

    choice: EvalsetChoice
    settings: Generate
    max_loss: float = DEFAULT_MAX_LOSS
    is_forced: bool = False

    @property
    def name(self) -> str:
        return f"{self.choice.name}:{self.choice.split}"


def check_gate(gate: Gate | None) -> None:
    """Check, before any work, that there is such an evalset.

    Raises:
        EvalsetError: There is not.
    """
    if gate:
        find_split(gate.choice.name, gate.choice.split, gate.choice.samples)


def compare_eyes(gate: Gate, old: Path, new: Path) -> dict[str, Any]:
    """Let a model with its old eyes and with new ones answer the same samples.

    Args:
        gate: What is asked.
        old: The model's folder.
        new: The folder with the new eyes.

    Returns:
        `evalset`, `metric` (the first one), `old` and `new` (its values), `kept` (their ratio; 1 where the old eyes
        come to nothing), and `result`, as `compare.compare` tells it.
    """
    _, split = find_split(gate.choice.name, gate.choice.split)
    questions = Questions([gate.choice], split.metrics, gate.settings)
    (result,) = evaluate_models({OLD: old, NEW: new}, questions).values()
    metric = split.metrics[0]
    values = {name: float(model["scores"][metric]["value"]) for name, model in result["models"].items()}
    kept = values[NEW] / values[OLD] if values[OLD] > 0 else 1.0
    return {
        "evalset": gate.name, "metric": metric, "old": values[OLD], "new": values[NEW], "kept": kept, "result": result,
    }  # fmt: skip


def pass_gate(gate: Gate, found: dict[str, Any], details: Sequence[str] = (), hint: str = "") -> None:
    """Refuse a swap that loses too much, unless it is forced.

    Args:
        gate: What may be lost.
        found: What `compare_eyes` told.
        details: What else is known of the new eyes.
        hint: What may help.

    Raises:
        RunError: It loses more.
    """
    if gate.is_forced or 1 - found["kept"] <= gate.max_loss:
        return
    values = f"{found['metric']} {found['old']:.2f} before, {found['new']:.2f} after, on {found['evalset']}"
    raise RunError(
        f"the new eyes lose {1 - found['kept']:.0%} of the score, at most {gate.max_loss:.0%} may be lost; nothing "
        "was written",
        details=[values, *details],
        hint=f"{hint}{'; ' if hint else ''}--force writes it all the same",
    )
