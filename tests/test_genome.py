"""Genes, genomes and ratios: every slot is ruled once, values stay in range, and fixed ratios follow depth."""

import math
import random

import pytest

from vlmmerge.anatomy import Slot
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Gene, Ratio, SearchSpace, build_space, encode, fixed_ratios, fold

RANGES = {"weight": (0.0, 1.5), "density": (0.1, 1.0)}
BOTH = ("weight", "density")
EMBEDDINGS, NORM, HEAD = Slot(None, "embed_tokens.weight"), Slot(None, "norm.weight"), Slot(None, "lm_head.weight")
LAYER_ROLES = (
    "input_layernorm.weight",
    "self_attn.q_proj.weight",
    "post_attention_layernorm.weight",
    "mlp.up_proj.weight",
)


def tower(num_layers: int) -> list[Slot]:
    return [EMBEDDINGS, *(Slot(layer, role) for layer in range(num_layers) for role in LAYER_ROLES), NORM, HEAD]


def space(
    num_layers: int = 7, depth: object = "per_layer", split: object = None, parameters: object = BOTH
) -> SearchSpace:
    return build_space(tower(num_layers), ["vlm", "ja"], depth, split, RANGES, parameters)  # type: ignore[arg-type]


def names(search_space: SearchSpace) -> list[str]:
    return [gene.name for gene in search_space.genes]


LAYOUTS = [
    (depth, split)
    for depth in ("global", {"groups": 1}, {"groups": 3}, {"groups": 7}, "per_layer")
    for split in (None, ["attention", "mlp"])
]


@pytest.mark.parametrize(("depth", "split"), LAYOUTS)
def test_every_slot_has_exactly_one_gene_for_each_parent_and_parameter(depth: object, split: object) -> None:
    laid_out = space(7, depth, split)
    for slot in laid_out.slots:
        ruling = [(gene.parent, gene.parameter) for gene in laid_out.genes if gene.rules(slot)]
        assert sorted(ruling) == [("ja", "density"), ("ja", "weight"), ("vlm", "density"), ("vlm", "weight")]
    assert len(set(names(laid_out))) == len(laid_out.genes)
    assert all(any(gene.rules(slot) for slot in laid_out.slots) for gene in laid_out.genes)


def test_global_depth_has_one_gene_a_parent_and_parameter() -> None:
    assert names(space(depth="global")) == ["weight.vlm", "weight.ja", "density.vlm", "density.ja"]


def test_groups_split_by_role_keep_embeddings_and_head_apart() -> None:
    laid_out = space(7, {"groups": 3}, ["attention", "mlp"], ("weight",))
    assert names(laid_out)[:8] == [
        "weight.vlm.embeddings",
        "weight.vlm.layers.0-1.attention",
        "weight.vlm.layers.0-1.mlp",
        "weight.vlm.layers.2-3.attention",
        "weight.vlm.layers.2-3.mlp",
        "weight.vlm.layers.4-6.attention",
        "weight.vlm.layers.4-6.mlp",
        "weight.vlm.head",
    ]
    assert len(laid_out.genes) == 16


def test_global_depth_with_split_has_one_pair_of_layer_genes() -> None:
    assert names(space(4, "global", ["attention", "mlp"], ("weight",)))[:4] == [
        "weight.vlm.embeddings",
        "weight.vlm.layers.0-3.attention",
        "weight.vlm.layers.0-3.mlp",
        "weight.vlm.head",
    ]


def test_as_many_groups_as_layers_is_per_layer() -> None:
    assert space(5, {"groups": 5}) == space(5, "per_layer")


@pytest.mark.parametrize("num_layers", [1, 5, 24, 32])
def test_groups_cover_all_layers_in_order_with_sizes_that_differ_by_at_most_one(num_layers: int) -> None:
    for num_groups in range(1, num_layers + 1):
        genes = space(num_layers, {"groups": num_groups}, None, ("weight",)).genes
        groups = [gene.layers for gene in genes if gene.parent == "vlm" and gene.layers is not None]
        assert len(groups) == num_groups
        assert [layer for group in groups for layer in group] == list(range(num_layers))
        assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_more_groups_than_layers_is_an_error_that_says_how_many_there_are() -> None:
    with pytest.raises(VlmMergeError) as caught:
        space(4, {"groups": 9})
    assert str(caught.value) == (
        "blend.depth: wanted 9 groups, but the language tower has 4 layers\n"
        "hint: at most `groups: 4`, which is `per_layer`"
    )


def test_a_tower_with_a_tied_head_still_has_a_head_gene_for_the_norm_and_one_without_head_has_none() -> None:
    tied = build_space(
        [EMBEDDINGS, Slot(0, "mlp.up_proj.weight"), NORM], ["vlm"], "per_layer", None, RANGES, ["weight"]
    )
    assert names(tied) == ["weight.vlm.embeddings", "weight.vlm.layers.0", "weight.vlm.head"]
    bare = build_space([Slot(0, "mlp.up_proj.weight")], ["vlm"], "per_layer", ["attention", "mlp"], RANGES, ["weight"])
    assert names(bare) == ["weight.vlm.layers.0.mlp"]


def test_fold_changes_nothing_between_0_and_1_and_is_even_and_has_period_2() -> None:
    rng = random.Random(0)
    for number in [0.0, 1.0, *(rng.random() for _ in range(200))]:
        assert fold(number) == number
        assert fold(-number) == pytest.approx(number, abs=1e-12)
        assert fold(number + 2.0) == pytest.approx(number, abs=1e-12)
        assert fold(2.0 - number) == pytest.approx(number, abs=1e-12)
    assert all(0.0 <= fold(rng.uniform(-1e6, 1e6)) <= 1.0 for _ in range(1000))
    assert fold(-1e-300) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite numbers only"):
        space(depth="global").decode([0.5, bad, 0.5, 0.5])


def test_a_genome_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="wanted 4 values, one a gene, got 3"):
        space(depth="global").decode([0.5] * 3)


@pytest.mark.parametrize(("depth", "split"), LAYOUTS)
def test_decoded_ratios_stay_in_range_and_encode_inverts_decode(depth: object, split: object) -> None:
    laid_out = space(7, depth, split)
    rng = random.Random(1)
    values = [rng.gauss(0.5, 2.0) for _ in laid_out.genes]
    ratios = laid_out.decode(values)
    assert list(ratios) == list(laid_out.slots)
    for of_parents in ratios.values():
        assert list(of_parents) == ["vlm", "ja"]
        assert all(0.0 <= ratio.weight <= 1.5 and 0.1 <= ratio.density <= 1.0 for ratio in of_parents.values())
    assert encode(laid_out, ratios) == pytest.approx([fold(value) for value in values], abs=1e-12)


def test_the_ends_of_a_range_are_met_exactly() -> None:
    for low, high in [(0.1, 1.0), (0.3, 0.9), (-0.7, 1.1), (0.0, 1.5)]:
        gene = Gene("weight.vlm", "vlm", "weight", None, ("mlp",), low, high)
        assert gene.to_value(0.0) == low
        assert gene.to_value(1.0) == pytest.approx(high, abs=1e-15)
        assert gene.to_value(1.0) <= high


def test_each_gene_moves_only_its_own_slots_and_parameter() -> None:
    laid_out = space(5, {"groups": 2}, ["attention", "mlp"])
    before = laid_out.decode(laid_out.center(0.5))
    for position, gene in enumerate(laid_out.genes):
        values = laid_out.center(0.5)
        values[position] = 0.75
        after = laid_out.decode(values)
        moved = {(slot, name) for slot in after for name in after[slot] if after[slot][name] != before[slot][name]}
        assert moved == {(slot, gene.parent) for slot in laid_out.slots if gene.rules(slot)}
        other = "density" if gene.parameter == "weight" else "weight"
        assert all(getattr(after[s][n], other) == getattr(before[s][n], other) for s, n in moved)


def test_a_method_without_density_leaves_it_at_1() -> None:
    laid_out = space(3, "per_layer", None, ("weight",))
    assert {
        ratio.density for of_parents in laid_out.decode(laid_out.center(0.2)).values() for ratio in of_parents.values()
    } == {1.0}


def test_center_is_start_for_every_gene() -> None:
    assert space(depth="global").center(0.5) == [0.5] * 4


def test_encode_takes_the_mean_over_the_genes_slots_and_clips_to_the_range() -> None:
    slots = tower(3)
    whole = build_space(slots, ["vlm"], "global", None, {"weight": (0.0, 2.0)}, ["weight"])
    layers_only = build_space(slots[1:-2], ["vlm"], "global", None, {"weight": (0.0, 2.0)}, ["weight"])
    assert encode(layers_only, fixed_ratios(slots[1:-2], ["vlm"], {"vlm": {"weight": [0.0, 2.0]}})) == [0.5]
    assert encode(whole, fixed_ratios(slots, ["vlm"], {"vlm": {"weight": 3.0}})) == [1.0]
    assert encode(whole, fixed_ratios(slots, ["vlm"], {"vlm": {"weight": -1.0}})) == [0.0]


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


@pytest.mark.parametrize(
    "values",
    [
        *[(bad, 1.0) for bad in (math.nan, math.inf)],
        *[(1.0, bad) for bad in (0.0, -0.1, 1.1, math.nan)],
        *[(1.0, 0.5, bad) for bad in (-0.1, 1.1, math.nan)],
        *[(1.0, 0.5, 0.0, bad) for bad in (-0.1, 0.6, math.nan)],
    ],
)
def test_a_ratio_out_of_range_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(VlmMergeError) as caught:
        Ratio(*values)
    weight, density, gamma, epsilon = (*values, 0.0, 0.0)[:4]
    assert str(caught.value) == (
        f"no such ratio: weight {weight}, density {density}, gamma {gamma}, epsilon {epsilon}\n"
        "hint: a weight is a finite number; a density is above 0 and at most 1, a gamma from 0 to 1, an epsilon from 0 "
        "to 0.5; weight 0 leaves a parent out"
    )


def test_a_ratio_says_what_is_not_neutral() -> None:
    assert str(Ratio(0.6)) == "weight 0.6, density 1"
    assert str(Ratio(0.6, 0.5, 0.01, 0.15)) == "weight 0.6, density 0.5, gamma 0.01, epsilon 0.15"


def test_every_field_of_a_ratio_can_have_genes() -> None:
    ranges = {"weight": (0.0, 1.5), "density": (0.1, 1.0), "gamma": (0.0, 0.05), "epsilon": (0.0, 0.2)}
    laid_out = build_space(tower(3), ["vlm", "ja"], "global", None, ranges, list(ranges))
    assert names(laid_out)[::2] == ["weight.vlm", "density.vlm", "gamma.vlm", "epsilon.vlm"]
    ratios = laid_out.decode([0.0, 1.0, 0.0, 1.0, 0.5, 1.0, 1.0, 0.0])
    assert ratios[HEAD] == {"vlm": Ratio(0.0, 0.1, 0.025, 0.2), "ja": Ratio(1.5, 1.0, 0.05, 0.0)}
    assert encode(laid_out, ratios) == pytest.approx([0.0, 1.0, 0.0, 1.0, 0.5, 1.0, 1.0, 0.0])


def test_a_method_without_ratios_takes_every_parent_as_it_is() -> None:
    laid_out = space(3, "per_layer", None, ())
    assert laid_out.genes == ()
    assert {ratio for of_parents in laid_out.decode([]).values() for ratio in of_parents.values()} == {Ratio(1.0)}


def test_describe_says_how_many_genes_of_what_and_where() -> None:
    assert space(3, "per_layer").describe() == (
        "20 genes: weight 0 to 1.5, density 0.1 to 1; for each of vlm, ja; in 5 places, embeddings to head"
    )
    assert space(3, "global").describe() == (
        "4 genes: weight 0 to 1.5, density 0.1 to 1; for each of vlm, ja; in the whole language tower"
    )
