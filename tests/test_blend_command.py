"""`vlmmerge blend`, end to end: fixed ratios, file to file, whole or not at all, and a message for each fault.

`VLMMERGE_KILLS=200 pytest tests/test_blend_command.py -k killed` kills more often than the suite does.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlmmerge import __version__
from vlmmerge.blend import METHODS, blend_slot
from vlmmerge.plan import make_plan
from vlmmerge.recipe import load_recipe

if TYPE_CHECKING:
    from conftest import Cli

WEIGHTS = "model.safetensors"
RECIPE = """
parents: {vlm: vlm, base: base, llms: {ja: ja-llm}}
blend:
  method: dare_ties
  ratios:
    vlm: {weight: 0.9, density: 0.6}
    ja: {weight: [0.2, 1.1], density: 0.5}
  seed: 7
"""


@pytest.fixture(scope="module")
def recipe(parents: Path) -> Path:
    """A recipe of parents and blend alone."""
    file = parents / "blend.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    return file


@pytest.fixture
def own_parents(parents: Path, recipe: Path, tmp_path: Path) -> Path:
    """A copy of the parents' folder, to break."""
    return shutil.copytree(parents, tmp_path / "parents")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("method", METHODS)
def test_the_files_hold_what_the_formulas_give_for_the_fixed_ratios(
    cli: "Cli", recipe: Path, tmp_path: Path, method: str
) -> None:
    overrides = [f"blend.method={method}", *([] if METHODS[method].parameters else ["blend.ratios="])]
    arguments = [argument for override in overrides for argument in ("--set", override)]
    done = cli.run("blend", recipe, "--out", tmp_path / "out", *arguments, "--json")
    assert done.status == 0, done.err
    size = (tmp_path / "out" / WEIGHTS).stat().st_size
    assert json.loads(done.out) == {"out": str(tmp_path / "out"), "method": method, "num_bytes": size}
    plan = make_plan(load_recipe(recipe, overrides))
    before, after = load_file(recipe.parent / "vlm" / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    ratios = plan.fixed_ratios()
    for slot in plan.anatomy.slots:
        base, vlm, ja = (plan.checkpoints[name].read(plan.anatomy.keys[name][slot]) for name in ("base", "vlm", "ja"))
        blended = blend_slot(method, base, {"vlm": vlm, "ja": ja}, ratios[slot], seed=7, slot=str(slot))
        key = plan.anatomy.keys["vlm"][slot]
        assert torch.equal(after[key].view(torch.int32), blended.view(torch.int32))
        before.pop(key)
    assert before and all(torch.equal(after[key], tensor) for key, tensor in before.items()), "the rest is frozen"


def test_provenance_and_card_name_the_fixed_ratios_and_the_bar_tells_gib_a_second(
    cli: "Cli", recipe: Path, tmp_path: Path
) -> None:
    done = cli.run("blend", recipe, "--out", tmp_path / "out", "--set", "blend.seed=8", "--set", "blend.lambda=0.9")
    assert done.status == 0 and done.out == ""
    assert "warning" not in done.err and "GiB/s" in done.err and done.err.endswith(f"wrote {tmp_path / 'out'}\n")
    provenance = json.loads((tmp_path / "out" / "vlmmerge.json").read_text(encoding="utf-8"))
    assert provenance["vlmmerge"] == __version__ and set(provenance["recipe"]) == {"parents", "blend"}
    wanted = {"weight": [0.2, 1.1], "density": 0.5, "gamma": 0.01, "epsilon": 0.15}
    assert provenance["recipe"]["blend"]["ratios"]["ja"] == wanted
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| layer 0 | 0.900 | 0.600 | 0.200 | 0.500 |\n" in card
    assert "blend:\n  method: dare_ties\n" in card and "  seed: 8\n" in card and "  lambda: 0.9\n" in card


def test_a_recipe_to_evolve_serves_too_and_its_evalsets_do_not_matter(
    cli: "Cli", recipe_file: Path, recipe: Path, tmp_path: Path
) -> None:
    ratios = "blend.ratios={vlm: {weight: 0.9, density: 0.6}, ja: {weight: [0.2, 1.1], density: 0.5}}"
    overrides = [ratios, "blend.seed=7", "evalset.search.name=no-such-set"]
    arguments = [word for override in overrides for word in ("--set", override)]
    done = cli.run("blend", recipe_file, "--out", tmp_path / "one", *arguments)
    assert done.status == 0, done.err
    assert cli.run("blend", recipe, "--out", tmp_path / "other").status == 0
    assert (tmp_path / "one" / WEIGHTS).read_bytes() == (tmp_path / "other" / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("linear", "{PARENT: {weight: NUMBER}} for vlm and each LLM"),
        ("breadcrumbs", "{PARENT: {weight: NUMBER, density: NUMBER, gamma: NUMBER}} for vlm and each LLM"),
        ("dare_ties", "{PARENT: {weight: NUMBER, density: NUMBER}} for vlm and each LLM"),
    ],
)
def test_missing_ratios_are_told_with_what_the_method_wants(
    cli: "Cli", recipe: Path, tmp_path: Path, method: str, wanted: str
) -> None:
    out, overrides = tmp_path / "out", ["--set", "blend.ratios=", "--set", f"blend.method={method}"]
    done = cli.run("blend", recipe, "--out", out, *overrides)
    assert (done.status, done.message) == (
        1,
        f"error: {recipe}: 1 fault in the recipe\n"
        f"  blend.ratios: missing, but {method} needs ratios; wanted {wanted}\n"
        "hint: mend the file, or use --set KEY=VALUE",
    )
    assert not out.exists()


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(cli: "Cli", recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = cli.run("blend", recipe, "--out", tmp_path)
    assert done.status == 1
    assert done.message == f"error: {tmp_path} is not empty and no export of vlmmerge\nhint: choose another --out"
    assert files_of(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize("name", ["vlm", "base", "ja-llm"])
def test_weights_that_are_not_finite_are_counted_and_nothing_appears(
    cli: "Cli", own_parents: Path, tmp_path: Path, name: str
) -> None:
    file = own_parents / name / WEIGHTS
    tensors = load_file(file)
    (key,) = (key for key in tensors if key.endswith("layers.1.mlp.up_proj.weight"))
    tensors[key][3, 4:6] = torch.nan
    tensors[key][60, 1] = -torch.inf
    save_file(tensors, file, metadata={"format": "pt"})
    done = cli.run("blend", own_parents / "blend.yaml", "--out", tmp_path / "out")
    assert done.status == 1 and done.out == ""
    assert done.message.partition("error: ")[2] == (
        f"{file} is damaged: 3 of 2,048 weights are not finite\n"
        f"  `{key}`: 2 NaN, 1 infinite\n"
        "hint: fetch the checkpoint again; a parent of weight 0 is left out of a blend"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["parents"]


def test_a_damaged_parent_of_weight_0_does_not_matter(cli: "Cli", own_parents: Path, tmp_path: Path) -> None:
    tensors = load_file(own_parents / "ja-llm" / WEIGHTS)
    broken = {key: torch.full_like(tensor, torch.nan) for key, tensor in tensors.items()}
    save_file(broken, own_parents / "ja-llm" / WEIGHTS, metadata={"format": "pt"})
    done = cli.run("blend", own_parents / "blend.yaml", "--out", tmp_path / "out", "--set", "blend.ratios.ja.weight=0")
    assert done.status == 0, done.err
    provenance = json.loads((tmp_path / "out" / "vlmmerge.json").read_text(encoding="utf-8"))
    assert list(provenance["distance_to_base"]) == ["vlm"]


def test_a_base_that_is_no_ancestor_is_warned_of_and_the_distances_are_kept(
    cli: "Cli", own_parents: Path, tmp_path: Path
) -> None:
    file = own_parents / "base" / WEIGHTS
    unrelated = {key: tensor.roll(7, -1) if tensor.ndim > 1 else tensor for key, tensor in load_file(file).items()}
    save_file(unrelated, file, metadata={"format": "pt"})
    done = cli.run("blend", own_parents / "blend.yaml", "--out", tmp_path / "out")
    assert done.status == 0, done.err
    distances = json.loads((tmp_path / "out" / "vlmmerge.json").read_text(encoding="utf-8"))["distance_to_base"]
    assert list(distances) == ["vlm", "ja"] and all(1.3 < distance < 1.6 for distance in distances.values())
    for name, distance in distances.items():
        warning = f"warning: `base` seems no ancestor of `{name}`: they are {distance:.2f} lengths of `base` apart, "
        assert sum(line.startswith(warning) for line in done.err.splitlines()) == 1, done.err


def test_a_mergekit_file_gives_what_the_same_recipe_gives(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    models = "".join(
        f"  - {{model: {parents / name}, parameters: {{weight: {weight}, density: 0.5}}}}\n"
        for name, weight in (("vlm", 0.75), ("ja-llm", 1.25))
    )
    file = tmp_path / "file.yaml"
    shared = f"base_model: {parents / 'base'}\nparameters: {{normalize: false}}\n"
    file.write_text(f"merge_method: ties\n{shared}models:\n{models}")
    done = cli.run("blend", "--from-mergekit", file, "--out", tmp_path / "theirs")
    assert done.status == 0, done.err
    recipe = parents / "ties.yaml"
    ratios = "{vlm: {weight: 0.75, density: 0.5}, ja: {weight: 1.25, density: 0.5}}"
    blend = f"{{method: ties, majority_sign_tie: positive, ratios: {ratios}}}"
    recipe.write_text(f"parents: {{vlm: vlm, base: base, llms: {{ja: ja-llm}}}}\nblend: {blend}\n")
    assert cli.run("blend", recipe, "--out", tmp_path / "ours").status == 0
    assert (tmp_path / "theirs" / WEIGHTS).read_bytes() == (tmp_path / "ours" / WEIGHTS).read_bytes()


def test_what_a_mergekit_file_cannot_go_with_is_told(cli: "Cli", recipe: Path, tmp_path: Path) -> None:
    done = cli.run("blend", "--from-mergekit", recipe, "--out", tmp_path / "out", "--set", "blend.seed=3")
    assert (done.status, done.message) == (
        1,
        "error: --set overrides a recipe's keys\nhint: change the mergekit file, or write a recipe",
    )
    done = cli.run("blend", recipe, "--out", tmp_path / "out", "--vlm", "vlm")
    assert (done.status, done.message) == (
        1,
        "error: --vlm goes with --from-mergekit\nhint: use --set parents.vlm=MODEL",
    )
    done = cli.run("blend", "--out", tmp_path / "out")
    assert done.status == 2 and "one of the arguments RECIPE --from-mergekit is required" in done.err
    assert not (tmp_path / "out").exists()


def test_a_dtype_that_cannot_be_blended_is_told(cli: "Cli", own_parents: Path, tmp_path: Path) -> None:
    file = own_parents / "ja-llm" / WEIGHTS
    tensors = load_file(file)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)
    save_file(tensors, file, metadata={"format": "pt"})
    done = cli.run("blend", own_parents / "blend.yaml", "--out", tmp_path / "out")
    assert (done.status, done.message) == (
        1,
        f"error: {own_parents / 'ja-llm'}: `model.norm.weight` is stored as I8, wanted one of F64, F32, F16, BF16\n"
        "hint: quantized weights cannot be blended: use the unquantized checkpoint",
    )
    assert not (tmp_path / "out").exists()


def test_too_little_disk_is_told_before_anything_is_written(cli: "Cli", own_parents: Path, tmp_path: Path) -> None:
    """The VLM is of terabytes here: its vision tower is a hole in a file."""
    file = own_parents / "vlm" / WEIGHTS
    length = int.from_bytes(file.open("rb").read(8), "little")
    header = json.loads(file.read_bytes()[8 : 8 + length])
    end = max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")
    header["vision.hole"] = {"dtype": "F32", "shape": [2**40], "data_offsets": [end, end + 2**42]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + file.read_bytes()[8 + length :])
    os.truncate(file, 8 + len(text) + end + 2**42)
    done = cli.run("blend", own_parents / "blend.yaml", "--out", tmp_path / "out")
    assert done.status == 1
    message, hint = done.message.splitlines()
    assert message.startswith(f"error: too little room for {tmp_path / 'out'}: 4,096.00 GiB will be written, ")
    assert hint == "hint: make room, or choose another --out"
    assert [path.name for path in tmp_path.iterdir()] == ["parents"]


def test_a_blend_killed_at_any_moment_leaves_the_old_folder_or_the_new_one(
    cli: "Cli", recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "folder" / "out"
    commands = [("blend", recipe, "--out", out, "--set", f"blend.seed={seed}") for seed in (1, 2)]
    whole, seconds = [], 0.0
    for command in commands:
        begin = time.monotonic()
        assert cli.run(*command).status == 0
        seconds = time.monotonic() - begin
        whole.append(files_of(out))
    assert whole[0] != whole[1]
    rng, found = random.Random(0), []
    for number in range(int(os.environ.get("VLMMERGE_KILLS", "12"))):
        process = cli.start(*commands[number % 2])
        time.sleep(rng.uniform(0.3, 1.1) * seconds)
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(process, signal.SIGKILL)
        cli.wait()
        found.append(files_of(out))
    assert all(files in whole for files in found)
    assert cli.run(*commands[0]).status == 0
    assert files_of(out) == whole[0] and os.listdir(out.parent) == ["out"], "what was left behind is cleared away"
