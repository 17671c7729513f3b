"""anatomy.py: language towers are found by pairing keys, in every layout met in the wild, and every misfit is told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vlmmerge.anatomy import EMBEDDINGS, HEAD, KEEP_EMBEDDINGS, Slot, language_tower, pair, study
from vlmmerge.anatomy.towers import towers
from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.errors import ParentsError

Shapes = dict[str, tuple[int, ...]]


def language_shapes(prefix: str = "model.", head: str | None = "lm_head.weight", num_layers: int = 2) -> Shapes:
    """A language tower as files hold it: `prefix` before its keys, and a head unless it is tied."""
    layer: Shapes = {
        "input_layernorm.weight": (8,),
        "self_attn.q_proj.weight": (8, 8),
        "post_attention_layernorm.weight": (8,),
        "mlp.gate_proj.weight": (16, 8),
    }
    shapes: Shapes = {f"{prefix}embed_tokens.weight": (40, 8), f"{prefix}norm.weight": (8,)}
    for number in range(num_layers):
        shapes |= {f"{prefix}layers.{number}.{role}": shape for role, shape in layer.items()}
    return shapes | ({head: (40, 8)} if head else {})


def eyes(prefix: str, num_layers: int = 5, stack: str = "layers") -> Shapes:
    """A vision tower with more layers than the language tower, some of whose roles have the same names."""
    shapes: Shapes = {}
    for number in range(num_layers):
        for role in ("self_attn.q_proj.weight", "mlp.fc1.weight", "mlp.fc2.weight", "layer_norm1.weight"):
            shapes[f"{prefix}{stack}.{number}.{role}"] = (6, 6)
    return shapes | {f"{prefix}embeddings.patch_embedding.weight": (6, 3, 2, 2)}


# facts.md's layouts: for each, the prefix of the language tower, the key of its head, and what stands beside it.
LAYOUTS: dict[str, tuple[str, str | None, Shapes]] = {
    "llava-hf": (
        "language_model.model.",
        "language_model.lm_head.weight",
        eyes("vision_tower.vision_model.encoder.") | {"multi_modal_projector.linear_1.weight": (8, 6)},
    ),
    "llava-hf by transformers 5": (
        "language_model.model.",
        "language_model.lm_head.weight",
        eyes("vision_tower.encoder.") | {"multi_modal_projector.linear_1.weight": (8, 6)},
    ),
    "original llava": (
        "model.",
        "lm_head.weight",
        eyes("model.vision_tower.vision_tower.vision_model.encoder.") | {"model.mm_projector.0.weight": (8, 6)},
    ),
    "qwen2-vl on the hub": (
        "model.",
        "lm_head.weight",
        eyes("visual.", stack="blocks") | {"visual.merger.mlp.0.weight": (8, 24)},
    ),
    "qwen2-vl in memory": (
        "model.language_model.",
        "lm_head.weight",
        eyes("model.visual.", stack="blocks") | {"model.visual.merger.mlp.0.weight": (8, 24)},
    ),
    "gemma 3": ("language_model.model.", None, eyes("vision_tower.vision_model.encoder.")),
    "smolvlm": ("model.text_model.", "lm_head.weight", eyes("model.vision_model.encoder.")),
    "a tower without a prefix": ("", "lm_head.weight", {}),
}


# What of a layout's keys is projector.
CONNECTS = ("multi_modal_projector", "mm_projector", "merger")


def renamed(shapes: Shapes, change: Callable[[str], str]) -> Shapes:
    return {change(key): shape for key, shape in shapes.items()}


def fault_of(parents: dict[str, Shapes]) -> ParentsError:
    with pytest.raises(ParentsError) as caught:
        study(parents)
    return caught.value


def test_checkpoints_that_transformers_wrote_pair_slot_by_slot(parents: Path) -> None:
    checkpoints = {name: open_checkpoint(parents / name) for name in ("vlm", "base", "ja-llm")}
    anatomy = study({name: checkpoint.shapes for name, checkpoint in checkpoints.items()})
    assert anatomy.num_layers == 2
    assert anatomy.keys["base"] == anatomy.keys["ja-llm"]
    assert set(anatomy.keys["base"].values()) == set(checkpoints["base"].shapes), "all of a language model is paired"
    q_proj, head = Slot(1, "self_attn.q_proj.weight"), Slot(None, "lm_head.weight")
    assert anatomy.keys["base"][q_proj] == "model.layers.1.self_attn.q_proj.weight"
    assert anatomy.keys["vlm"][q_proj].endswith("model.layers.1.self_attn.q_proj.weight")
    assert anatomy.keys["vlm"][head].endswith("lm_head.weight")
    left = set(checkpoints["vlm"].shapes) - set(anatomy.keys["vlm"].values())
    assert {key.removeprefix("model.").split(".")[0] for key in left} == {"vision_tower", "multi_modal_projector"}


def test_tied_heads_are_no_slot(tied_parents: Path) -> None:
    shapes = {name: open_checkpoint(tied_parents / name).shapes for name in ("vlm", "base", "ja-llm")}
    anatomy = study(shapes)
    assert Slot(None, "lm_head.weight") not in anatomy.slots
    assert Slot(None, "embed_tokens.weight") in anatomy.slots


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_pairs_with_a_plain_language_model(layout: str) -> None:
    prefix, head, beside = LAYOUTS[layout]
    tower = language_shapes(prefix, head)
    base = language_shapes(head="lm_head.weight" if head else None)
    anatomy = study({"vlm": tower | beside, "base": base, "ja": base})
    assert set(anatomy.keys["vlm"].values()) == set(tower), "the tower, all of it, and nothing beside it"
    for slot, key in anatomy.keys["vlm"].items():
        assert key == (head if slot.role == "lm_head.weight" else prefix + str(slot))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_order_of_keys_in_a_file_does_not_matter(layout: str) -> None:
    prefix, head, beside = LAYOUTS[layout]
    shapes = language_shapes(prefix, head) | beside
    slots = language_tower(language_shapes(head="lm_head.weight" if head else None))
    backwards = dict(reversed(shapes.items()))
    assert pair(slots, shapes) == pair(slots, backwards)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_of_every_layout_belongs_to_one_tower(layout: str) -> None:
    prefix, head, beside = LAYOUTS[layout]
    tower, head_of_base = language_shapes(prefix, head), "lm_head.weight" if head else None
    shapes = tower | beside
    found = towers(shapes, language_tower(language_shapes(head=head_of_base)))
    assert found.keys() == shapes.keys()
    assert {key for key, name in found.items() if name == "language"} == set(tower)
    assert {key for key, name in found.items() if name == "projector"} == {
        key for key in beside if any(word in key for word in CONNECTS)
    }
    assert found == towers(shapes), "with no base to compare, too"


def test_layers_that_look_at_the_picture_are_vision_and_the_others_count_without_them() -> None:
    """Llama 3.2 Vision: every few layers of the language tower is one more, with cross-attention."""
    base = language_shapes(num_layers=3)
    vlm = language_shapes("language_model.model.", num_layers=5)
    for looks in (1, 3):
        at = f"language_model.model.layers.{looks}."
        vlm[f"{at}cross_attn.q_proj.weight"] = vlm.pop(f"{at}self_attn.q_proj.weight")
    anatomy = study({"vlm": vlm, "base": base, "ja": base})
    assert anatomy.num_layers == 3 and len(anatomy.slots) == len(base)
    for number, layer in enumerate((0, 2, 4)):
        slot = Slot(number, "self_attn.q_proj.weight")
        assert anatomy.keys["vlm"][slot] == f"language_model.model.layers.{layer}.self_attn.q_proj.weight"
    for found in (towers(vlm, language_tower(base)), towers(vlm)):
        assert {key for key, tower in found.items() if tower == "vision"} == {
            key for key in vlm if ".layers.1." in key or ".layers.3." in key
        }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_base_with_eyes_lends_no_more_than_its_language_tower(layout: str) -> None:
    """Two VLMs in the layout of the original LLaVA had their eyes blended, which stand under the tower's prefix."""
    prefix, head, beside = LAYOUTS[layout]
    tower = language_shapes(prefix, head)
    parents = dict.fromkeys(["vlm", "base", "ja"], tower | beside)
    assert set(study(parents).keys["vlm"].values()) == set(tower)


def test_of_two_towers_with_the_same_names_the_one_whose_shapes_fit_is_taken() -> None:
    base = language_shapes()
    talker = {key: tuple(2 * size for size in shape) for key, shape in language_shapes("a_talker.model.").items()}
    del talker["lm_head.weight"]
    anatomy = study({"vlm": talker | language_shapes("thinker.model."), "base": base, "ja": base})
    assert all(not key.startswith("a_talker") for key in anatomy.keys["vlm"].values())


def test_a_family_whose_layers_have_other_names_pairs_with_itself() -> None:
    def rename(key: str) -> str:
        return key.replace("model.layers", "transformer.h").replace("model.", "transformer.")

    base = renamed(language_shapes(), rename)
    vlm = renamed(language_shapes("vlm.model."), rename) | eyes("eyes.")
    anatomy = study({"vlm": vlm, "base": base, "ja": base})
    assert anatomy.keys["vlm"][Slot(1, "mlp.gate_proj.weight")] == "vlm.transformer.h.1.mlp.gate_proj.weight"
    assert len(anatomy.slots) == len(base)


def test_a_vlm_whose_keys_do_not_pair_is_told_with_what_was_found_and_what_was_not() -> None:
    base = language_shapes()
    odd = {key.replace("self_attn.q_proj", "att_proj").replace("norm", "ln"): shape for key, shape in base.items()}
    error = fault_of({"vlm": odd | eyes("eyes."), "base": base, "ja": base})
    assert error.message == "parents do not fit: 13 of 17 language slots differ"
    assert error.details[0] == (
        "`vlm`: 4 of 11 slots found under `model.`; no slot: model.ln.weight, model.layers.0.input_layerln.weight, "
        "model.layers.0.att_proj.weight"
    )
    other = {f"decoder.{key}": (8,) for key in ("block.0.a", "block.0.b", "block.1.a")}
    assert fault_of({"vlm": other, "base": base, "ja": base}).details[0] == (
        "`vlm`: 0 of 10 slots found under `decoder.`; no slot: decoder.block.0.a, decoder.block.0.b, decoder.block.1.a"
    )


def test_slots_sort_by_depth_with_layer_10_after_layer_2() -> None:
    base = language_shapes(num_layers=12)
    slots = study({"vlm": base, "base": base, "ja": base}).slots
    assert slots[0] == Slot(None, "embed_tokens.weight")
    assert {slot.part for slot in slots[-2:]} == {"head"}
    layers = [slot.layer for slot in slots[1:-2] if slot.layer is not None]
    assert layers == sorted(layers) and len(layers) == 4 * 12


def test_rotary_frequencies_of_old_checkpoints_are_left_out() -> None:
    base = language_shapes()
    old = base | {"model.layers.0.self_attn.rotary_emb.inv_freq": (4,)}
    anatomy = study({"vlm": base, "base": old, "ja": old})
    assert len(anatomy.slots) == len(base)


def test_a_base_without_a_language_tower_is_told() -> None:
    error = fault_of({"vlm": language_shapes(), "base": {"encoder.attn.weight": (8, 8)}, "ja": {}})
    assert str(error) == (
        "`base` has no language tower: no key of the form `layers.0.self_attn.q_proj.weight`\n"
        "  found encoder.attn.weight ...\n"
        "hint: `parents.base` must be a decoder-only language model"
    )


def test_other_shapes_are_told_once_a_role_with_both_shapes() -> None:
    base = language_shapes()
    wider = {key: (24, 8) if "mlp" in key else shape for key, shape in base.items()}
    error = fault_of({"vlm": language_shapes("language_model.model."), "base": base, "ja": wider})
    assert error.message.startswith("parents do not fit: 2 of 11 language slots ")
    assert error.details == ("layers.0.mlp.gate_proj.weight  (24, 8) in `ja`   (16, 8) in `base`",)
    assert error.hint == "all language towers must come from one base model, with equal shapes"


def test_vocabularies_of_other_sizes_fit_and_rows_of_other_lengths_do_not() -> None:
    base = language_shapes()
    padded = {key: (64, 8) if shape == (40, 8) else shape for key, shape in base.items()}
    longer = {key: (40, 9) if shape == (40, 8) else shape for key, shape in base.items()}
    assert len(study({"vlm": padded, "base": base, "ja": base}).slots) == len(base)
    error = fault_of({"vlm": padded, "base": base, "ja": longer})
    assert error.details == (
        "embed_tokens.weight  (40, 9) in `ja`   (40, 8) in `base`",
        "lm_head.weight  (40, 9) in `ja`   (40, 8) in `base`",
    )
    assert error.hint == KEEP_EMBEDDINGS
    assert len(study({"vlm": padded, "base": base, "ja": longer}, blends_embeddings=False).slots) == len(base) - 2


def test_fewer_layers_than_the_base_are_told_as_missing() -> None:
    error = fault_of({"vlm": language_shapes(), "base": language_shapes(num_layers=3), "ja": language_shapes()})
    assert error.message.startswith("parents do not fit: 4 of 15 language slots ")
    assert "layers.2.mlp.gate_proj.weight  missing in `vlm`   (16, 8) in `base`" in error.details
    assert error.details[-1] == "... and 2 more kinds of slots", "eight kinds, six shown"


@pytest.mark.parametrize("name", ["base", "ja"])
@pytest.mark.parametrize("slot", ["embed_tokens.weight", "layers.1.mlp.gate_proj.weight", "norm.weight"])
def test_a_slot_that_is_missing_in_one_parent_is_told(name: str, slot: str) -> None:
    """What the base lacked beside its layers, such as the final norm, stayed the VLM's, and nobody was told."""
    shapes = language_shapes()
    parents = {"vlm": shapes, "base": shapes, "ja": shapes}
    error = fault_of(parents | {name: {key: shape for key, shape in shapes.items() if key != f"model.{slot}"}})
    assert error.message == "parents do not fit: 1 of 11 language slots differ"
    shape = shapes[f"model.{slot}"]
    text = (
        f"{slot}  missing in `ja`   {shape} in `base`"
        if name == "ja"
        else f"{slot}  {shape} in `ja`   missing in `base`"
    )
    assert text in error.details


HEADS = ["own", "tied by its config", "tied by its file"]


def with_head(head: str) -> tuple[Shapes, bool | None]:
    return language_shapes(head=None if head == "tied by its file" else "lm_head.weight"), head == HEADS[1] or None


@pytest.mark.parametrize("base_head", HEADS)
@pytest.mark.parametrize("ja_head", HEADS)
def test_beside_a_vlm_with_a_head_of_its_own_a_tied_parents_head_is_its_embeddings(
    base_head: str, ja_head: str
) -> None:
    (base, base_says), (ja, ja_says) = with_head(base_head), with_head(ja_head)
    anatomy = study(
        {"vlm": language_shapes(), "base": base, "ja": ja}, {"vlm": False, "base": base_says, "ja": ja_says}
    )
    assert HEAD in anatomy.slots and not anatomy.repeated_heads
    for name, head in (("base", base_head), ("ja", ja_head)):
        is_there = head != "tied by its file"
        assert anatomy.keys[name][HEAD] == ("lm_head.weight" if is_there else "model.embed_tokens.weight")


@pytest.mark.parametrize("vlm_head", HEADS[1:])
@pytest.mark.parametrize("base_head", HEADS)
@pytest.mark.parametrize("ja_head", HEADS)
def test_beside_a_vlm_whose_head_is_tied_no_parent_may_have_a_head_of_its_own(
    vlm_head: str, base_head: str, ja_head: str
) -> None:
    heads = {"vlm": vlm_head, "base": base_head, "ja": ja_head}
    shapes = {name: with_head(head)[0] for name, head in heads.items()}
    says_tied = {name: with_head(head)[1] for name, head in heads.items()}
    if own := [name for name, head in heads.items() if head == "own"]:
        with pytest.raises(ParentsError) as caught:
            study(shapes, says_tied)
        assert str(caught.value) == "\n".join(
            [
                "parents do not fit: 1 of 11 language slots differ",
                *(f"  lm_head.weight  (40, 8) in `{name}`   tied to the embeddings in `vlm`" for name in own),
                f"hint: {KEEP_EMBEDDINGS}",
            ]
        )
        assert len(study(shapes, says_tied, blends_embeddings=False).slots) == 9
    else:
        anatomy = study(shapes, says_tied)
        assert HEAD not in anatomy.slots and EMBEDDINGS in anatomy.slots
        assert anatomy.repeated_heads == {n: "lm_head.weight" for n, head in heads.items() if head == HEADS[1]}


@pytest.mark.parametrize("name", ["vlm", "base", "ja"])
def test_a_head_that_the_config_wants_and_the_file_lacks_is_missing_not_tied(name: str) -> None:
    """A language model saved without its head would have got its embeddings for one."""
    shapes = dict.fromkeys(["vlm", "base", "ja"], language_shapes()) | {name: language_shapes(head=None)}
    with pytest.raises(ParentsError) as caught:
        study(shapes, {name: False})
    missing = [line for line in caught.value.details if "missing" in line]
    assert missing and all(line.startswith("lm_head.weight  ") and f"in `{name}`" in line for line in missing)


@pytest.mark.parametrize("name", ["vlm", "ja"])
def test_a_tower_with_more_than_the_base_is_told_and_never_dropped_in_silence(name: str) -> None:
    """More layers or biases beyond the base's took no part in the blend, and nobody was told."""
    base = language_shapes(head=None)
    more = language_shapes(head=None, num_layers=3) | {"model.layers.0.self_attn.q_proj.bias": (8,)}
    parents = {"vlm": base, "base": base, "ja": base}
    study(parents)
    error = fault_of(parents | {name: more})
    assert error.message == "parents do not fit: 5 of 15 language slots differ"
    assert f"layers.0.self_attn.q_proj.bias  (8,) in `{name}`   missing in `base`" in error.details
    assert f"layers.2.input_layernorm.weight  (8,) in `{name}`   missing in `base`" in error.details


def test_fused_projections_pair_only_with_themselves() -> None:
    def fuse(key: str) -> str:
        return key.replace("q_proj", "qkv_proj")

    base = language_shapes()
    study({"vlm": renamed(base, fuse), "base": renamed(base, fuse), "ja": renamed(base, fuse)})
    error = fault_of({"vlm": renamed(base, fuse), "base": base, "ja": base})
    assert "layers.0.self_attn.q_proj.weight  missing in `vlm`   (8, 8) in `base`" in error.details
