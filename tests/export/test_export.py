"""export.py: what was scored is what ships, frozen means frozen, and a folder is written whole or not at all."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from vlmmerge.blend import METHODS, Options, chunks, cuts, passes
from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.errors import RunError, VlmMergeError
from vlmmerge.export import PROVENANCE, export
from vlmmerge.generate import LiveVlm
from vlmmerge.genome import Ratio, Ratios
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import load_recipe
from vlmmerge.resident import make_blender

WEIGHTS = "model.safetensors"


def plan_of(folder: Path, method: str = "dare_ties", *overrides: str) -> Plan:
    return make_plan(load_recipe(folder / "recipe.yaml", [f"blend.method={method}", *overrides]))


def some_ratios(plan: Plan) -> Ratios:
    """Another ratio in every slot, for every parent."""
    rng = random.Random(0)
    return {
        slot: {name: Ratio(rng.uniform(0.2, 1.2), rng.uniform(0.3, 1.0)) for name in plan.blended_parents}
        for slot in plan.anatomy.slots
    }


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def exported(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan, out = plan_of(parents), tmp_path_factory.mktemp("exported") / "out"
    export(plan, some_ratios(plan), out, {"candidate": {"index": 3}, "name": "画像"})
    return out


def test_every_byte_outside_the_language_tower_is_the_parents(parents: Path, exported: Path) -> None:
    plan = plan_of(parents)
    before, after = (bytearray((folder / WEIGHTS).read_bytes()) for folder in (parents / "vlm", exported))
    assert len(before) == len(after) and before != after
    for key in plan.anatomy.keys["vlm"].values():
        info = plan.checkpoints["vlm"].tensors[key]
        assert before[info.start : info.end] != after[info.start : info.end], f"{key} is blended"
        before[info.start : info.end] = after[info.start : info.end] = bytes(info.num_bytes)
    assert before == after


def test_header_keys_and_every_other_file_are_the_parents(parents: Path, exported: Path) -> None:
    with safe_open(parents / "vlm" / WEIGHTS, "pt") as before, safe_open(exported / WEIGHTS, "pt") as after:
        assert list(before.keys()) == list(after.keys()) and before.metadata() == after.metadata()
    before_files, after_files = files_of(parents / "vlm"), files_of(exported)
    assert set(after_files) == set(before_files) | {PROVENANCE, "README.md"}
    assert all(after_files[name] == before_files[name] for name in before_files if name != WEIGHTS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["parents", "tied_parents"])
def test_the_exported_model_is_the_live_model_bit_for_bit(
    request: pytest.FixtureRequest, family: str, method: str, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(family)
    plan = plan_of(folder, method)
    vlm = LiveVlm(folder / "vlm", plan.recipe.generate)
    make_blender(plan, vlm.model).write(some_ratios(plan))
    export(plan, some_ratios(plan), tmp_path / "out", {})
    shipped = dict(AutoModelForImageTextToText.from_pretrained(tmp_path / "out").named_parameters())
    live = vlm.parameters()
    assert live.keys() == shipped.keys()
    assert all(torch.equal(live[name].view(torch.int32), shipped[name].view(torch.int32)) for name in live)


def test_the_options_of_the_recipe_reach_the_live_model_and_the_export(parents: Path, tmp_path: Path) -> None:
    made = []
    for name, overrides in [("plain", []), ("other", ["blend.lambda=0.5", "blend.rescale=l1"])]:
        plan = plan_of(parents, "dare_ties", *overrides)
        vlm = LiveVlm(parents / "vlm", plan.recipe.generate)
        make_blender(plan, vlm.model).write(some_ratios(plan))
        export(plan, some_ratios(plan), tmp_path / name, {})
        shipped = dict(AutoModelForImageTextToText.from_pretrained(tmp_path / name).named_parameters())
        assert all(torch.equal(parameter, shipped[key]) for key, parameter in vlm.parameters().items())
        made.append(files_of(tmp_path / name)[WEIGHTS])
    assert made[0] != made[1]
    assert plan.options == Options(lambda_=0.5, rescale="l1")


@pytest.mark.parametrize("method", METHODS)
def test_chunks_that_cut_through_every_slot_give_the_same_files(
    parents: Path, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(parents, method)
    export(plan, some_ratios(plan), tmp_path / "whole", {})
    for module, name, length in ((passes, "CHUNK", 100), (chunks, "TASK", 300), (cuts, "SMALLEST_PIECE", 250)):
        monkeypatch.setattr(module, name, length)
    export(plan, some_ratios(plan), tmp_path / "chunks", {})
    assert files_of(tmp_path / "chunks") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("method", METHODS)
def test_the_vlm_alone_is_the_parents_file_byte_for_byte(parents: Path, method: str, tmp_path: Path) -> None:
    plan = plan_of(parents, method)
    export(plan, plan.uniform({"vlm": 1.0}), tmp_path / "out", {})
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (parents / "vlm" / WEIGHTS).read_bytes()


def test_a_sharded_bfloat16_parent_keeps_its_shards_and_its_dtype(parents: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(parents, tmp_path / "parents")
    model = AutoModelForImageTextToText.from_pretrained(folder / "vlm").bfloat16()
    (folder / "vlm" / WEIGHTS).unlink()
    model.save_pretrained(folder / "vlm", max_shard_size="40KB")
    plan = plan_of(folder)
    export(plan, plan.uniform({"vlm": 1.0}), tmp_path / "same", {})
    shards = sorted(path.name for path in (folder / "vlm").glob("*.safetensors"))
    assert len(shards) > 2
    same = files_of(tmp_path / "same")
    assert {name: same[name] for name in files_of(folder / "vlm")} == files_of(folder / "vlm")

    export(plan, some_ratios(plan), tmp_path / "out", {})
    vlm = LiveVlm(folder / "vlm", plan.recipe.generate)
    make_blender(plan, vlm.model).write(some_ratios(plan))
    assert vlm.model.dtype == torch.bfloat16
    shipped = dict(AutoModelForImageTextToText.from_pretrained(tmp_path / "out").named_parameters())
    assert all(torch.equal(parameter, shipped[name]) for name, parameter in vlm.parameters().items())


def test_provenance_and_a_model_card_go_with_it(exported: Path) -> None:
    assert json.loads((exported / PROVENANCE).read_text(encoding="utf-8")) == {
        "candidate": {"index": 3},
        "name": "画像",
        "distance_to_base": {"vlm": 0.1779, "ja": 0.2008},
    }
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert "| `ja` | ja-llm (not stated) | a local folder |" in card and "by `dare_ties`" in card
    assert str(exported.parent.parent) not in card, "a card travels: no folder of this machine is in it"


def test_an_earlier_export_is_replaced_whole(parents: Path, exported: Path, tmp_path: Path) -> None:
    plan, out = plan_of(parents), tmp_path / "out"
    export(plan, plan.uniform({"vlm": 1.0}), out, {})
    (out / "left over").touch()
    export(plan, some_ratios(plan), out, {"candidate": {"index": 3}, "name": "画像"})
    assert files_of(out) == files_of(exported)
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_folder_is_taken(parents: Path, exported: Path, tmp_path: Path) -> None:
    plan = plan_of(parents)
    (tmp_path / "out").mkdir()
    export(plan, some_ratios(plan), tmp_path / "out", {"candidate": {"index": 3}, "name": "画像"})
    assert files_of(tmp_path / "out") == files_of(exported)


def test_a_folder_with_something_else_is_refused_and_left_alone(parents: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    plan = plan_of(parents)
    with pytest.raises(RunError) as caught:
        export(plan, some_ratios(plan), tmp_path, {})
    assert str(caught.value) == f"{tmp_path} is not empty and no export of vlmmerge\nhint: choose another --out"
    assert files_of(tmp_path) == {"thesis.txt": b"mine"}


def test_a_file_in_the_way_is_refused_and_left_alone(parents: Path, tmp_path: Path) -> None:
    """It ended in a traceback."""
    file = tmp_path / "thesis.txt"
    file.write_text("mine")
    plan = plan_of(parents)
    with pytest.raises(RunError) as caught:
        export(plan, some_ratios(plan), file, {})
    assert str(caught.value) == f"{file} is a file, wanted a folder\nhint: choose another --out"
    with pytest.raises(RunError) as caught:
        export(plan, some_ratios(plan), file / "out", {})
    assert (
        str(caught.value) == f"cannot write {file / 'out'}: Not a directory\nhint: make room, or choose another --out"
    )
    assert file.read_text() == "mine"


def test_the_current_folder_can_be_exported_to(
    parents: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path without a name ended in a traceback."""
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    plan = plan_of(parents)
    export(plan, some_ratios(plan), Path("."), {"candidate": {"index": 3}, "name": "画像"})
    assert files_of(tmp_path / "out") == files_of(exported)


def test_a_blend_that_is_not_finite_writes_nothing_under_the_name(parents: Path, tmp_path: Path) -> None:
    plan = plan_of(parents, "task_arithmetic")
    last = plan.anatomy.slots[-1]
    ratios = some_ratios(plan) | {last: {name: Ratio(1e300) for name in plan.blended_parents}}
    with pytest.raises(VlmMergeError, match=f"^{last}: blending by task_arithmetic gives values that are not finite"):
        export(plan, ratios, tmp_path / "out", {})
    assert not (tmp_path / "out").exists()
    export(plan, some_ratios(plan), tmp_path / "out", {})
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "what was left behind is cleared away"


# Exports two candidates in turn under one name, for ever.
EXPORT_FOR_EVER = """
import itertools, sys
from pathlib import Path
from vlmmerge.plan import make_plan
from vlmmerge.export import export
from vlmmerge.recipe import load_recipe

plan = make_plan(load_recipe(sys.argv[1]))
for number in itertools.count():
    weights = {"vlm": 1.0} if number % 2 else {"ja": 1.0}
    export(plan, plan.uniform(weights), Path(sys.argv[2]), {"candidate": {"index": number % 2}})
    print(number, flush=True)
"""


@pytest.fixture(scope="module")
def two_exports(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """The files of the two candidates that EXPORT_FOR_EVER writes."""
    plan, folder = plan_of(parents), tmp_path_factory.mktemp("two")
    for number, weights in enumerate([{"ja": 1.0}, {"vlm": 1.0}]):
        export(plan, plan.uniform(weights), folder / str(number), {"candidate": {"index": number}})
    return [files_of(folder / "0"), files_of(folder / "1")]


def test_an_export_stopped_at_any_moment_leaves_the_old_folder_or_the_new_one(
    two_exports: list[dict[str, Any]], recipe_file: Path, tmp_path: Path
) -> None:
    """A kill while the earlier export was removed left half of it, which the next export then refused to replace; one
    while it was moved aside left nothing at all."""
    rng, out = random.Random(0), tmp_path / "out"
    command = [sys.executable, "-c", EXPORT_FOR_EVER, str(recipe_file), str(out)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline()
    found = []
    for _ in range(200):  # stopped, looked at, and continued: what a kill at that moment would have left
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        found.append(files_of(out))
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()
    assert all(files in two_exports for files in found)
    assert all(files in found for files in two_exports), "both were met"
    plan = make_plan(load_recipe(recipe_file))
    export(plan, plan.uniform({"vlm": 1.0}), out, {"candidate": {"index": 1}})
    assert files_of(out) == two_exports[1] and list(tmp_path.iterdir()) == [out]


def test_language_tensors_keep_the_dtype_of_the_parents_file(parents: Path, exported: Path) -> None:
    assert {tensor.dtype for tensor in load_file(exported / WEIGHTS).values()} == {torch.float32}
    assert open_checkpoint(exported).shapes == open_checkpoint(parents / "vlm").shapes
