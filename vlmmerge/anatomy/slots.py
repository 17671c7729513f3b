"""One tensor's place in a language tower, by which the parents' tensors are named alike.

Knows names. Does not know where a checkpoint keeps its tower.
"""

from dataclasses import dataclass
from functools import total_ordering


@total_ordering
@dataclass(frozen=True)
class Slot:
    """One tensor's place in the language tower. Slots sort by depth: embeddings, layers, final norm and head.

    Args:
        layer: The decoder layer, from 0; None for what lies outside the layers.
        role: The tensor's name within its layer or tower, for example `self_attn.q_proj.weight` or `lm_head.weight`.

    >>> str(Slot(3, "mlp.gate_proj.weight")), Slot(3, "mlp.gate_proj.weight").part
    ('layers.3.mlp.gate_proj.weight', 'mlp')
    >>> str(Slot(None, "lm_head.weight")), Slot(None, "lm_head.weight").part
    ('lm_head.weight', 'head')
    >>> Slot(3, "self_attn.q_proj.bias").short_role, Slot(3, "input_layernorm.weight").short_role
    ('q_proj', 'input_layernorm')
    """

    layer: int | None
    role: str

    @property
    def part(self) -> str:
        """The part of the tower it belongs to: `attention`, `mlp`, `embeddings` or `head`."""
        if self.layer is None:
            return "embeddings" if self.role.startswith("embed_tokens.") else "head"
        return "attention" if self.role.startswith(("input_layernorm.", "self_attn.")) else "mlp"

    @property
    def has_token_rows(self) -> bool:
        """Whether its rows are tokens: they pair by token, and their number may differ between parents."""
        return self in (EMBEDDINGS, HEAD)

    @property
    def short_role(self) -> str:
        """The role as a recipe names it: `q_proj` for its weight and its bias, `input_layernorm`, `lm_head`."""
        return self.role.split(".")[-2:][0]

    def __str__(self) -> str:
        return self.role if self.layer is None else f"layers.{self.layer}.{self.role}"

    def __lt__(self, other: "Slot") -> bool:
        return self._depth < other._depth

    @property
    def _depth(self) -> tuple[int, int, str]:
        stage = {"embeddings": 0, "attention": 1, "mlp": 1, "head": 2}[self.part]
        return stage, self.layer or 0, self.role


EMBEDDINGS, HEAD = Slot(None, "embed_tokens.weight"), Slot(None, "lm_head.weight")
