"""Fixed ratios: numbers, control points over depth, and mappings of parts and roles, spread over the slots."""

import random

import pytest

from vlmmerge.anatomy import Slot
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio
from vlmmerge.ratios import Form, fixed_ratios, to_form

EMBEDDINGS, NORM, HEAD = Slot(None, "embed_tokens.weight"), Slot(None, "norm.weight"), Slot(None, "lm_head.weight")
LAYER_ROLES = (
    "input_layernorm.weight",
    "self_attn.q_proj.weight",
    "self_attn.q_proj.bias",
    "post_attention_layernorm.weight",
    "mlp.up_proj.weight",
)


def tower(num_layers: int) -> list[Slot]:
    return [EMBEDDINGS, *(Slot(layer, role) for layer in range(num_layers) for role in LAYER_ROLES), NORM, HEAD]


def weights(form: Form, num_layers: int = 3) -> dict[str, float]:
    """The weight in each slot, by the slot's name."""
    ratios = fixed_ratios(tower(num_layers), ["ja"], {"ja": {"weight": form}})
    return {str(slot): of_parents["ja"].weight for slot, of_parents in ratios.items()}


def fault(form: Form) -> VlmMergeError:
    with pytest.raises(VlmMergeError) as caught:
        weights(form)
    return caught.value


def test_fixed_numbers_hold_in_every_slot() -> None:
    ratios = fixed_ratios(tower(3), ["vlm", "ja"], {"vlm": {"weight": 0.9, "density": 0.6}, "ja": {"weight": 1}})
    assert list(ratios) == tower(3)
    assert all(of_parents == {"vlm": Ratio(0.9, 0.6), "ja": Ratio(1.0, 1.0)} for of_parents in ratios.values())


def test_control_points_lie_on_straight_lines_over_depth() -> None:
    ratios = fixed_ratios(tower(5), ["ja"], {"ja": {"weight": [0.2, 0.8, 1.0], "density": [0.5, 1.0]}})
    role = LAYER_ROLES[1]
    assert [ratios[Slot(layer, role)]["ja"].weight for layer in range(5)] == pytest.approx([0.2, 0.5, 0.8, 0.9, 1.0])
    assert [ratios[Slot(layer, role)]["ja"].density for layer in range(5)] == pytest.approx(
        [0.5, 0.625, 0.75, 0.875, 1.0]
    )
    assert ratios[EMBEDDINGS] == ratios[Slot(0, role)] == {"ja": Ratio(0.2, 0.5)}
    assert ratios[NORM] == ratios[HEAD] == ratios[Slot(4, role)] == {"ja": Ratio(1.0, 1.0)}


@pytest.mark.parametrize("num_layers", [2, 3, 7, 24, 31])
def test_equal_control_points_are_met_exactly_so_that_identities_hold(num_layers: int) -> None:
    ratios = fixed_ratios(tower(num_layers), ["ja"], {"ja": {"weight": [1.0] * 5, "density": [0.7] * 4}})
    assert {of_parents["ja"] for of_parents in ratios.values()} == {Ratio(1.0, 0.7)}


def test_a_tower_of_one_layer_takes_the_first_control_point() -> None:
    ratios = fixed_ratios(tower(1), ["ja"], {"ja": {"weight": [0.25, 0.75]}})
    assert [ratios[slot]["ja"].weight for slot in (EMBEDDINGS, Slot(0, LAYER_ROLES[0]), HEAD)] == [0.25, 0.25, 0.75]


def test_a_parent_without_a_fixed_weight_is_an_error_that_names_the_key() -> None:
    with pytest.raises(VlmMergeError) as caught:
        fixed_ratios(tower(2), ["vlm", "ja"], {"vlm": {"weight": 1.0}})
    assert str(caught.value) == (
        "fixed ratios need a weight for each parent\n  blend.ratios.ja.weight: missing\nhint: 0 leaves a parent out"
    )


def test_as_many_control_points_as_layers_are_met_exactly() -> None:
    """25 / 39 * 39 is not 25, so that the 26th of 40 points was once missed by a little."""
    for num_layers in (2, 32, 40, 50, 80):
        points = [1.0 / (3 + layer) for layer in range(num_layers)]
        found = weights(points, num_layers)
        assert [found[f"layers.{layer}.{LAYER_ROLES[0]}"] for layer in range(num_layers)] == points


def test_a_mapping_gives_parts_their_own_ratios_and_default_gives_the_rest() -> None:
    found = weights({"attention": [0.0, 1.0], "embeddings": 0.25, "default": 0.75})
    assert [found[f"layers.{layer}.self_attn.q_proj.weight"] for layer in range(3)] == [0.0, 0.5, 1.0]
    assert [found[f"layers.{layer}.input_layernorm.weight"] for layer in range(3)] == [0.0, 0.5, 1.0]
    assert [found[f"layers.{layer}.mlp.up_proj.weight"] for layer in range(3)] == [0.75] * 3
    assert found["embed_tokens.weight"] == 0.25
    assert found["norm.weight"] == found["lm_head.weight"] == 0.75


def test_a_role_goes_before_its_part_and_a_part_before_the_default() -> None:
    found = weights({"default": 1.0, "attention": 2.0, "q_proj": [3.0, 4.0, 5.0], "head": 6.0, "lm_head": 7.0})
    assert [found[f"layers.{layer}.self_attn.q_proj.weight"] for layer in range(3)] == [3.0, 4.0, 5.0]
    assert [found[f"layers.{layer}.self_attn.q_proj.bias"] for layer in range(3)] == [3.0, 4.0, 5.0]
    assert found["layers.1.input_layernorm.weight"] == 2.0
    assert found["layers.1.mlp.up_proj.weight"] == found["embed_tokens.weight"] == 1.0
    assert (found["norm.weight"], found["lm_head.weight"]) == (6.0, 7.0)


def test_parts_that_cover_everything_need_no_default() -> None:
    found = weights({"attention": 1.0, "mlp": 2.0, "embeddings": 3.0, "head": 4.0})
    assert set(found.values()) == {1.0, 2.0, 3.0, 4.0}


def test_parents_and_parameters_may_have_forms_of_their_own() -> None:
    vlm: dict[str, Form] = {"weight": 1.0, "density": {"mlp": 0.5, "default": 1.0}}
    ratios = fixed_ratios(tower(2), ["vlm", "ja"], {"vlm": vlm, "ja": {"weight": [0, 1]}})
    assert ratios[Slot(1, "mlp.up_proj.weight")] == {"vlm": Ratio(1.0, 0.5), "ja": Ratio(1.0, 1.0)}
    assert ratios[Slot(0, "self_attn.q_proj.weight")] == {"vlm": Ratio(1.0, 1.0), "ja": Ratio(0.0, 1.0)}


def test_a_name_that_is_no_part_or_role_is_an_error_with_the_nearest_name() -> None:
    error = fault({"atention": 1.0, "q_porj": 1.0, "xyz": 1.0, "default": 0.0})
    assert str(error) == (
        "blend.ratios does not fit the language tower\n"
        '  blend.ratios.ja.weight.atention: no such part or role (did you mean "attention"?)\n'
        '  blend.ratios.ja.weight.q_porj: no such part or role (did you mean "q_proj"?)\n'
        "  blend.ratios.ja.weight.xyz: no such part or role\n"
        "hint: the parts are embeddings, attention, mlp, head; the roles are embed_tokens, input_layernorm, q_proj, "
        "post_attention_layernorm, up_proj, norm, lm_head"
    )


def test_slots_that_a_mapping_leaves_out_are_an_error_that_names_their_roles() -> None:
    (line,) = fault({"attention": 1.0, "up_proj": 1.0, "embeddings": 1.0}).details
    assert line == (
        "blend.ratios.ja.weight: nothing for post_attention_layernorm, norm, lm_head; "
        "name each of them, its part, or a default"
    )


def test_the_faults_of_all_parents_come_in_one_error() -> None:
    with pytest.raises(VlmMergeError) as caught:
        fixed_ratios(
            tower(2), ["vlm", "ja"], {"vlm": {"weight": {"x": 1.0}}, "ja": {"weight": 1.0, "density": {"mlp": 1.0}}}
        )
    assert [line.partition(": ")[0] for line in caught.value.details] == [
        "blend.ratios.vlm.weight.x",
        "blend.ratios.vlm.weight",
        "blend.ratios.ja.density",
    ]


@pytest.mark.parametrize("num_layers", [1, 2, 7, 40])
def test_numbers_that_no_bias_has_alone_go_into_a_form_and_come_back_to_the_bit(
    num_layers: int,
) -> None:
    rng = random.Random(num_layers)
    for spread in (1, 2, 9):  # few different numbers make parts and layers equal by chance
        drawn = {(slot.layer, slot.short_role): rng.randrange(spread) / 7 for slot in tower(num_layers)}
        values = {slot: drawn[slot.layer, slot.short_role] for slot in tower(num_layers)}
        assert weights(to_form(values), num_layers) == {str(slot): value for slot, value in values.items()}


def test_the_form_of_numbers_is_as_short_as_their_parts_allow() -> None:
    assert to_form(dict.fromkeys(tower(3), 0.5)) == 0.5
    by_part = {"attention": 0.1, "mlp": 0.2, "embeddings": 0.3, "head": 0.3}
    assert to_form({slot: by_part[slot.part] for slot in tower(3)}) == by_part
    values = {slot: 0.5 if slot.layer is None else slot.layer / 2 for slot in tower(3)}
    values[HEAD] = 0.75
    depth = [0.0, 0.5, 1.0]
    assert to_form(values) == {"embeddings": 0.5, "attention": depth, "mlp": depth, "norm": 0.5, "lm_head": 0.75}


def test_no_form_tells_a_weight_from_its_bias() -> None:
    values = {slot: float(slot.role.endswith(".bias")) for slot in tower(2)}
    with pytest.raises(ValueError, match="q_proj of layer 0"):
        to_form(values)
