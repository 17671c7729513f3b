"""What a swap may lose."""

import pytest

from vlmmerge.backbone.gate import Gate, check_gate, pass_gate
from vlmmerge.errors import EvalsetError, RunError
from vlmmerge.recipe import EvalsetChoice, Generate

CHOICE = EvalsetChoice(name="ja-scenes", split="held_out")
FOUND = {"evalset": "ja-scenes:held_out", "metric": "cider", "old": 7.0, "new": 3.5, "kept": 0.5}


def test_too_great_a_loss_is_refused_with_both_scores() -> None:
    with pytest.raises(RunError) as caught:
        pass_gate(Gate(CHOICE, Generate(), max_loss=0.15), FOUND, ["alignment: poor"], "more pictures")
    assert str(caught.value).splitlines() == [
        "the new eyes lose 50% of the score, at most 15% may be lost; nothing was written",
        "  cider 7.00 before, 3.50 after, on ja-scenes:held_out",
        "  alignment: poor",
        "hint: more pictures; --force writes it all the same",
    ]


def test_a_loss_within_bounds_passes_and_so_does_a_forced_one() -> None:
    pass_gate(Gate(CHOICE, Generate(), max_loss=0.5), FOUND)
    pass_gate(Gate(CHOICE, Generate(), max_loss=0.0, is_forced=True), FOUND)


def test_an_unknown_evalset_is_told_before_any_work() -> None:
    with pytest.raises(EvalsetError):
        check_gate(Gate(EvalsetChoice(name="ja-scenes", split="nowhere"), Generate()))
    check_gate(None)
