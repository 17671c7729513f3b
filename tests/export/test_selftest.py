"""selftest.py: an export is believed when a new process gets the candidate's own answers from it."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlmmerge.errors import RunError
from vlmmerge.export.selftest import check_export
from vlmmerge.run import choose_candidate, read_run

if TYPE_CHECKING:
    from conftest import WholeRun


def test_the_exported_best_gives_the_answers_of_the_search(whole_run: "WholeRun") -> None:
    recipe, _, records = read_run(whole_run.folder)
    assert check_export(whole_run.folder / "best", recipe, choose_candidate(records, None)) == 4
    assert json.loads(whole_run.done.out)["checked_answers"] == 4
    assert "it gives 4 answers, all as they were in the search" in whole_run.done.err


def test_other_weights_are_found_out(whole_run: "WholeRun", tmp_path: Path) -> None:
    shutil.copytree(whole_run.folder / "best", tmp_path / "best")
    weights = load_file(tmp_path / "best" / "model.safetensors")
    head = next(key for key in weights if key.endswith("lm_head.weight"))
    save_file(weights | {head: weights[head].flip(0)}, tmp_path / "best" / "model.safetensors", {"format": "pt"})
    recipe, _, records = read_run(whole_run.folder)
    best = choose_candidate(records, None)
    with pytest.raises(RunError) as error:
        check_export(tmp_path / "best", recipe, best)
    assert str(error.value).startswith(
        f"{tmp_path / 'best'} was written, but answers otherwise than candidate {best['index']} did in the search\n"
    )
    assert "hint: another device, torch or transformers than in the run may round otherwise" in str(error.value)


def test_a_folder_that_does_not_load_is_told_with_the_reason(whole_run: "WholeRun", tmp_path: Path) -> None:
    shutil.copytree(whole_run.folder / "best", tmp_path / "best")
    save_file({"x": torch.zeros(1)}, tmp_path / "best" / "model.safetensors", {"format": "pt"})
    (tmp_path / "best" / "config.json").write_text("{}", encoding="utf-8")
    recipe, _, records = read_run(whole_run.folder)
    with pytest.raises(RunError) as error:
        check_export(tmp_path / "best", recipe, choose_candidate(records, None))
    text = str(error.value)
    assert "was written, but does not load in a new process" in text
    assert "transformers does not load it" in text and f"hint: `vlmmerge answer {tmp_path / 'best'}" in text
