"""`vlmmerge inspect --deltas`: the numbers of whole tensors by plain torch, found in stretches, and a plain verdict."""

import itertools
import json
import math
import random
import re
import shutil
from collections.abc import Callable
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlmmerge.anatomy import Slot
from vlmmerge.errors import CheckpointError, ParentsError
from vlmmerge.inspection import deltas, inspect
from vlmmerge.inspection.deltas import Products, add_up, compare, num_bytes_compared, paired_towers
from vlmmerge.inspection.verdict import describe_deltas

if TYPE_CHECKING:
    from conftest import Cli

WEIGHTS = "model.safetensors"
Weights = dict[str, torch.Tensor]


@pytest.fixture
def own(parents: Path, tmp_path: Path) -> Path:
    """A copy of the tiny parents, to break."""
    return shutil.copytree(parents, tmp_path / "parents")


def measure(folder: Path, *names: str) -> dict[str, Any]:
    inspection = inspect([str(folder / name) for name in names or ("vlm", "ja-llm", "base")])
    towers = paired_towers(inspection)
    assert towers
    return describe_deltas(inspection.lineup, compare(towers, lambda num_bytes: None))


def edit_weights(folder: Path, change: Callable[[Weights], Weights]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def language(folder: Path) -> Weights:
    """The matrices of the language tower by the base's keys, float64, read by plain torch."""
    weights = {key.replace("language_model.", "", 1): tensor for key, tensor in load_file(folder / WEIGHTS).items()}
    inner = {re.sub(r"^model\.language_model\.|^model\.", "model.", key): tensor for key, tensor in weights.items()}
    is_own = ("model.layers.", "model.embed_tokens.", "lm_head.")
    return {key: t.double() for key, t in inner.items() if key.startswith(is_own) and t.ndim > 1}


def plain(parents: dict[str, Weights], holds: Callable[[str], bool]) -> dict[str, Any]:
    """A measure by its definition, on whole tensors."""
    flat = {name: torch.cat([own[key].flatten() for key in sorted(own) if holds(key)]) for name, own in parents.items()}
    base = flat.pop("base")
    moved = {name: own - base for name, own in flat.items()}

    def cosine(one: torch.Tensor, other: torch.Tensor) -> float | None:
        return float(torch.dot(one, other) / one.norm() / other.norm()) if one.any() and other.any() else None

    return {
        "norm": {name: float(delta.norm() / base.norm()) for name, delta in moved.items()},
        "cosine_to_base": {name: cosine(own, base) for name, own in flat.items()},
        "cosine": {"vlm": {"ja-llm": cosine(moved["vlm"], moved["ja-llm"])}},
    }


def assert_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, values in wanted.items():
        for name, value in values.items():
            if isinstance(value, dict):
                assert_equal(found[key], {name: value})
            else:
                wanted_value = value if value is None else pytest.approx(value, rel=1e-4, abs=1e-5)
                assert found[key][name] == wanted_value, (key, name)


@pytest.mark.parametrize("stretch", [1000, 2**20])
def test_measures_are_those_of_whole_tensors(parents: Path, monkeypatch: pytest.MonkeyPatch, stretch: int) -> None:
    monkeypatch.setattr(deltas, "STRETCH", stretch)
    monkeypatch.setattr(deltas, "CHUNK", stretch // 3)
    weights = {name: language(parents / name) for name in ("base", "vlm", "ja-llm")}
    found = measure(parents)
    assert found["compared_with"] == "base" and len(found["layers"]) == 2
    assert_equal(found["whole"], plain(weights, lambda key: True))
    assert_equal(found["embeddings"], plain(weights, lambda key: "embed_tokens" in key))
    assert_equal(found["head"], plain(weights, lambda key: "lm_head" in key))
    for number, layer in enumerate(found["layers"]):
        assert_equal(layer, plain(weights, lambda key, number=number: f"layers.{number}." in key))
    assert set(found["roles"]) == {
        *(f"self_attn.{letter}_proj" for letter in "qkvo"), *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    }  # fmt: skip
    for role, of_role in found["roles"].items():
        assert_equal(of_role, plain(weights, lambda key, role=role: key.endswith(f"{role}.weight")))


def test_only_rows_of_shared_tokens_are_compared(own: Path) -> None:
    """The VLM has rows beyond the others', of weights that would dwarf all else."""

    def padded(weights: Weights) -> Weights:
        has_rows = {key: key.endswith(("embed_tokens.weight", "lm_head.weight")) for key in weights}
        return {key: torch.cat([t, torch.full((3, 32), 1e3)]) if has_rows[key] else t for key, t in weights.items()}

    before = measure(own)
    edit_weights(own / "vlm", padded)
    assert measure(own) == before


def test_without_pairs_of_tokens_embeddings_and_head_are_left_out(own: Path) -> None:
    before = measure(own)
    file = own / "ja-llm" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["merges"] = []
    file.write_text(json.dumps(tokenizer))
    after = measure(own)
    assert "embeddings" not in after and "head" not in after
    assert after["layers"] == before["layers"] and after["roles"] == before["roles"]


def test_no_more_than_a_stretch_is_read_at_once(parents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "STRETCH", 512)
    towers = paired_towers(inspect([str(parents / name) for name in ("vlm", "ja-llm", "base")]))
    assert towers
    told: list[int] = []
    compare(towers, told.append)
    assert max(told) == 512 * (4 + 2 + 2) and sum(told) == num_bytes_compared(towers)
    num_weights = sum(tensor.numel() for tensor in language(parents / "base").values())
    assert sum(told) == num_weights * (4 + 2 + 2)


def test_products_keep_every_bound_whatever_the_vectors() -> None:
    rng = random.Random(0)
    for _ in range(200):
        length, number = rng.randint(1, 5), rng.randint(2, 4)
        vectors = [
            [rng.choice([0.0, 1.0, rng.gauss(0, 1e-3), rng.gauss(0, 1e3)]) for _ in range(length)]
            for _ in range(number)
        ]
        table = tuple(
            tuple(sum(map(mul, a, b)) if i <= j else 0.0 for j, b in enumerate(vectors)) for i, a in enumerate(vectors)
        )
        products = Products(table)
        for one, other in itertools.combinations(range(1, number), 2):
            cosine = products.cosine(one, other)
            assert cosine == products.cosine(other, one)
            assert cosine is None or -1.0 <= cosine <= 1.0
        assert all(
            to_base is None or -1.0 <= to_base <= 1.0 for to_base in map(products.cosine_to_base, range(1, number))
        )


def test_adding_up_parts_equals_the_whole() -> None:
    parts = [Products(((float(number), 1.0), (0.0, number / 2))) for number in range(1, 5)]
    assert add_up(parts) == Products(((10.0, 4.0), (0.0, 5.0)))
    assert add_up(parts).norm(1) == pytest.approx(math.sqrt(0.5))


# --- the verdict ---


def test_parents_of_one_base_are_one_family_and_who_moved_furthest_is_told(parents: Path) -> None:
    family, *moves, angle = measure(parents)["verdict"]
    assert re.fullmatch(
        r"one family: `vlm` and `ja-llm` are 0\.\d+ and 0\.\d+ lengths of `base` away from it; "
        r"unrelated weights are 1 or more", family,
    )  # fmt: skip
    assert re.fullmatch(
        r"`(vlm|ja-llm)` moved furthest: most in (layer \d|the \w+) \(0\.\d+\), by role in [\w.]+ \(0\.\d+\), .+",
        moves[0],
    )
    assert re.fullmatch(r"`(vlm|ja-llm)` moved most in .+", moves[1]) and moves[0][:4] != moves[1][:4]
    assert re.fullmatch(
        r"`vlm` and `ja-llm` learned different things: the cosine between their task vectors is -?0\.\d\d", angle
    )


def test_unrelated_weights_are_no_family(own: Path) -> None:
    edit_weights(own / "ja-llm", lambda weights: {k: t.roll(7, -1) if t.ndim > 1 else t for k, t in weights.items()})
    family = measure(own)["verdict"][0]
    assert re.fullmatch(
        r"not one family: `ja-llm` is 1\.[34]\d lengths of `base` away from it, as unrelated weights are "
        r"\(1 or more; fine-tuned ones are below 0\.3 or so\)", family,
    )  # fmt: skip


def test_where_a_parent_moved_is_told(own: Path) -> None:
    def child(weights: Weights) -> Weights:
        key = "model.layers.1.mlp.up_proj.weight"
        return weights | {key: weights[key] * 1.5}

    shutil.copy(own / "base" / WEIGHTS, own / "ja-llm" / WEIGHTS)
    edit_weights(own / "ja-llm", child)
    verdict = measure(own)["verdict"]
    (line,) = (line for line in verdict if line.startswith("`ja-llm` moved"))
    assert line.startswith("`ja-llm` moved most in layer 1 (0.") and "by role in mlp.up_proj (0." in line
    assert line.endswith("more in deep layers")


@pytest.mark.parametrize(("factor", "kind"), [(1.0, "much the same"), (-1.0, "the opposite")])
def test_whether_parents_learned_the_same_is_told(own: Path, factor: float, kind: str) -> None:
    base, vlm = load_file(own / "base" / WEIGHTS), language(own / "vlm")
    moved = {k: (t.double() + factor * (vlm[k] - t.double())).to(t.dtype) if k in vlm else t for k, t in base.items()}
    save_file(moved, own / "ja-llm" / WEIGHTS, metadata={"format": "pt"})
    angle = measure(own)["verdict"][-1]
    assert angle == f"`vlm` and `ja-llm` learned {kind}: the cosine between their task vectors is {factor:.2f}"


def test_a_parent_that_is_the_base_is_told_and_has_no_cosine(own: Path) -> None:
    shutil.copy(own / "base" / WEIGHTS, own / "ja-llm" / WEIGHTS)
    found = measure(own)
    assert found["whole"]["norm"]["ja-llm"] == 0.0 and found["whole"]["cosine_to_base"]["ja-llm"] == 1.0
    assert found["whole"]["cosine"]["vlm"]["ja-llm"] is None
    assert "`ja-llm` equals `base` in every matrix" in found["verdict"]
    assert not any("learned" in line for line in found["verdict"])


def test_two_parents_differ_from_each_other(parents: Path) -> None:
    found = measure(parents, "vlm", "ja-llm")
    assert found["compared_with"] == "ja-llm" and found["whole"]["cosine"] == {}
    assert found["verdict"][0].startswith("one family: `vlm` is 0.")
    assert found["verdict"][1].startswith("`vlm` differs most in ")


# --- the command ---


def test_the_command_draws_depth_and_tells_every_layer_and_role(cli: "Cli", parents: Path) -> None:
    done = cli.run("inspect", parents / "vlm", parents / "ja-llm", parents / "base", "--deltas")
    assert done.status == 0, done.err
    assert "GiB/s" in done.err
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "task vectors of the layers, first to last, in lengths of base" in lines
    assert sum(bool(re.fullmatch(r"[▁-█]{2} 0\.\d{3} to 0\.\d{3} (vlm|ja-llm)", line)) for line in lines) == 2
    for row in ("embeddings", "layer 0", "layer 1", "head", "mlp.down_proj", "self_attn.q_proj", "all"):
        assert sum(bool(re.fullmatch(row + r"( (-?[01]\.\d{3}|–)){5}", line)) for line in lines) == 1, row
    assert sum(line.startswith("- one family: ") for line in lines) == 1
    told = cli.run("inspect", parents / "vlm", parents / "ja-llm", parents / "base", "--deltas", "--json")
    assert json.loads(told.out)["deltas"] == measure(parents)


def test_one_parent_has_nothing_to_be_compared_with(cli: "Cli", parents: Path) -> None:
    done = cli.run("inspect", parents / "vlm", "--deltas", "--json")
    assert (done.status, done.out) == (1, "")
    assert done.message == "error: --deltas compares parents, found 1\nhint: name two or more, or leave --deltas out"
    with pytest.raises(ParentsError):
        measure(parents, "vlm")


def test_parents_that_do_not_fit_have_no_task_vectors(cli: "Cli", own: Path) -> None:
    edit_weights(own / "ja-llm", lambda weights: {k: t for k, t in weights.items() if "layers.1." not in k})
    done = cli.run("inspect", own / "vlm", own / "ja-llm", own / "base", "--deltas", "--json")
    assert (done.status, done.message) == (1, "warning: no task vectors: the parents do not fit")
    assert json.loads(done.out)["grade"] == "will fail" and "deltas" not in json.loads(done.out)


def test_weights_that_are_not_finite_are_told(cli: "Cli", own: Path) -> None:
    def damaged(weights: Weights) -> Weights:
        weights["model.layers.1.mlp.up_proj.weight"][3, 4:6] = torch.nan
        return weights

    edit_weights(own / "ja-llm", damaged)
    with pytest.raises(CheckpointError, match="is damaged: 2 of 2,048 weights are not finite"):
        measure(own)
    done = cli.run("inspect", own / "vlm", own / "ja-llm", own / "base", "--deltas")
    assert done.status == 1
    assert done.message.endswith("hint: fetch the checkpoint again; a parent of weight 0 is left out of a blend")


def test_weights_too_large_for_float32_products_are_measured(own: Path) -> None:
    """Their squares are infinite in float32."""
    edit_weights(
        own / "vlm",
        lambda weights: {k: t * 1e25 if "language_model.model.layers" in k else t for k, t in weights.items()},
    )
    found = measure(own)["layers"][0]["norm"]["vlm"]
    assert found > 1e24 and math.isfinite(found)


def test_roles_and_layers_come_in_order(parents: Path) -> None:
    towers = paired_towers(inspect([str(parents / name) for name in ("vlm", "base")]))
    assert towers
    products = compare(towers, lambda num_bytes: None)
    assert list(products) == sorted(products) and Slot(None, "norm.weight") not in products
