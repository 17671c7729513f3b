"""Genes, genomes and ratios: every slot is ruled once, values stay in range, and `encode` inverts `decode`."""

import itertools
import math
import random
from typing import Any

import pytest

from vlmmerge.anatomy import Slot
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Gene, Ratio, Ratios, SearchSpace, build_space, encode, fold
from vlmmerge.ratios import fixed_ratios

RANGES = {"weight": (0.0, 1.5), "density": (0.1, 1.0)}
BOTH = ("weight", "density")
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


def space(
    num_layers: int = 7, depth: object = "per_layer", split: object = None, parameters: object = BOTH
) -> SearchSpace:
    return build_space(tower(num_layers), ["vlm", "ja"], depth, split, RANGES, parameters)  # type: ignore[arg-type]


def names(search_space: SearchSpace) -> list[str]:
    return [gene.name for gene in search_space.genes]


SPLITS = (None, ["attention", "mlp"], "roles")
PARTITIONS = [
    (depth, split) for depth in ("global", {"groups": 1}, {"groups": 3}, {"groups": 7}, "per_layer") for split in SPLITS
]
LAYOUTS = PARTITIONS + [({"curve": points}, split) for points in (2, 3, 5, 7) for split in SPLITS]


def numbers_at(ratios: Ratios, role: str, parent: str = "ja", parameter: str = "weight") -> list[float]:
    """One parent's parameter in the layers' slots of one role, from the first layer to the last."""
    return [getattr(of_parents[parent], parameter) for slot, of_parents in ratios.items() if slot.role == role]


@pytest.mark.parametrize(("depth", "split"), PARTITIONS)
def test_off_a_curve_every_slot_has_one_gene_for_each_parent_and_parameter(depth: object, split: object) -> None:
    laid_out = space(7, depth, split)
    for slot in laid_out.slots:
        ruling = [(gene.parent, gene.parameter, gene.shares[slot]) for gene in laid_out.genes if slot in gene.shares]
        assert sorted(ruling) == [(p, q, 1.0) for p in ("ja", "vlm") for q in ("density", "weight")]


@pytest.mark.parametrize(("depth", "split"), LAYOUTS)
def test_the_shares_in_a_slot_sum_to_1_and_names_are_unique_and_no_gene_is_idle(depth: object, split: object) -> None:
    laid_out = space(7, depth, split)
    for slot, parent, parameter in itertools.product(laid_out.slots, ("vlm", "ja"), BOTH):
        genes = [gene for gene in laid_out.genes if (gene.parent, gene.parameter) == (parent, parameter)]
        shares = [gene.shares[slot] for gene in genes if slot in gene.shares]
        assert len(shares) in (1, 2) and math.fsum(shares) == pytest.approx(1.0, abs=1e-15) and min(shares) > 0.0
    assert len(set(names(laid_out))) == len(laid_out.genes)
    assert all(gene.shares for gene in laid_out.genes)


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


def test_a_curve_has_a_gene_a_control_point_and_embeddings_and_head_apart() -> None:
    assert names(space(7, {"curve": 3}, None, ("weight",)))[:5] == [
        "weight.vlm.embeddings",
        "weight.vlm.curve.0",
        "weight.vlm.curve.1",
        "weight.vlm.curve.2",
        "weight.vlm.head",
    ]
    assert names(space(7, {"curve": 2}, ["attention", "mlp"], ("weight",)))[1:5] == [
        "weight.vlm.curve.0.attention",
        "weight.vlm.curve.0.mlp",
        "weight.vlm.curve.1.attention",
        "weight.vlm.curve.1.mlp",
    ]


def test_split_roles_gives_every_role_genes_of_its_own_and_a_bias_goes_with_its_weight() -> None:
    laid_out = space(2, "global", "roles", ("weight",))
    assert names(laid_out)[:6] == [
        "weight.vlm.embeddings",
        "weight.vlm.layers.0-1.input_layernorm",
        "weight.vlm.layers.0-1.q_proj",
        "weight.vlm.layers.0-1.post_attention_layernorm",
        "weight.vlm.layers.0-1.up_proj",
        "weight.vlm.head",
    ]
    assert {slot.role for slot in laid_out.genes[2].shares} == {"self_attn.q_proj.weight", "self_attn.q_proj.bias"}
    assert space(2, {"curve": 2}, "roles", ("weight",)).genes[2].name == "weight.vlm.curve.0.q_proj"


def test_a_curve_runs_straight_between_its_control_points_first_layer_to_last() -> None:
    laid_out = space(7, {"curve": 3}, None, ("weight",))
    values = {"embeddings": 0.1, "curve.0": 0.2, "curve.1": 0.8, "curve.2": 0.5, "head": 0.9}
    ratios = laid_out.decode([values[gene.place] for gene in laid_out.genes])
    for role in LAYER_ROLES:
        assert numbers_at(ratios, role) == pytest.approx([0.3, 0.6, 0.9, 1.2, 1.05, 0.9, 0.75])
    assert ratios[EMBEDDINGS]["ja"].weight == 1.5 * 0.1
    assert ratios[NORM]["ja"].weight == ratios[HEAD]["ja"].weight == 1.5 * 0.9


def test_a_curve_meets_its_control_points_exactly() -> None:
    laid_out = space(7, {"curve": 4}, None, ("weight",))
    numbers = [0.1 * (1 + index % 7) for index in range(len(laid_out.genes))]
    ratios = laid_out.decode(numbers)
    for gene, number in zip(laid_out.genes, numbers, strict=True):
        if gene.parent == "ja" and gene.place.startswith("curve."):
            layer = 2 * int(gene.place.removeprefix("curve."))
            assert ratios[Slot(layer, LAYER_ROLES[0])]["ja"].weight == gene.to_value(number)


@pytest.mark.parametrize("num_layers", [2, 3, 7, 24, 31])
def test_equal_control_points_make_a_curve_flat_to_the_bit_so_that_identities_hold(num_layers: int) -> None:
    for num_points in range(2, num_layers + 1):
        laid_out = build_space(tower(num_layers), ["vlm"], {"curve": num_points}, None, RANGES, ["weight"])
        ratios = laid_out.decode([2.0 / 3.0] * len(laid_out.genes))
        assert {ratio.weight for of_parents in ratios.values() for ratio in of_parents.values()} == {1.0}


def test_a_curve_of_extremes_stays_in_range() -> None:
    for num_points in range(2, 8):
        laid_out = space(7, {"curve": num_points}, "roles")
        for start in (0.0, 1.0):
            ratios = laid_out.decode([(start + index) % 2 for index in range(len(laid_out.genes))])
            for of_parents in ratios.values():
                assert all(0.0 <= ratio.weight <= 1.5 and 0.1 <= ratio.density <= 1.0 for ratio in of_parents.values())


@pytest.mark.parametrize("split", SPLITS)
def test_a_curve_of_as_many_points_as_layers_decodes_as_per_layer(split: object) -> None:
    for num_layers in (2, 5, 40):  # 25 / 39 * 39 is not 25
        curve, layers = (space(num_layers, depth, split) for depth in ({"curve": num_layers}, "per_layer"))
        values = [random.Random(index).random() for index in range(len(curve.genes))]
        assert curve.decode(values) == layers.decode(values)


def test_as_many_groups_as_layers_is_per_layer() -> None:
    assert space(5, {"groups": 5}) == space(5, "per_layer")


@pytest.mark.parametrize("num_layers", [1, 5, 24, 32])
def test_groups_cover_all_layers_in_order_with_sizes_that_differ_by_at_most_one(num_layers: int) -> None:
    for num_groups in range(1, num_layers + 1):
        genes = space(num_layers, {"groups": num_groups}, None, ("weight",)).genes
        groups = [
            sorted({slot.layer for slot in gene.shares if slot.layer is not None})
            for gene in genes
            if gene.parent == "vlm" and gene.place.startswith("layers.")
        ]
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


def test_more_control_points_than_layers_is_an_error_that_says_how_many_there_are() -> None:
    with pytest.raises(VlmMergeError) as caught:
        space(4, {"curve": 9})
    assert str(caught.value) == (
        "blend.depth: wanted 9 control points, but the language tower has 4 layers\n"
        "hint: at most `curve: 4`, which is `per_layer`"
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


@pytest.mark.parametrize(("depth", "split"), PARTITIONS)
def test_off_a_curve_each_slot_has_its_genes_value_to_the_bit(depth: object, split: object) -> None:
    laid_out = space(7, depth, split)
    values = [random.Random(index).gauss(0.5, 2.0) for index in range(len(laid_out.genes))]
    ratios = laid_out.decode(values)
    for gene, value in zip(laid_out.genes, values, strict=True):
        assert {getattr(ratios[slot][gene.parent], gene.parameter) for slot in gene.shares} == {gene.to_value(value)}


@pytest.mark.parametrize("num_layers", [2, 3, 6, 24, 32])
def test_encode_gives_back_any_ratios_that_are_a_curve_whatever_the_number_of_points(num_layers: int) -> None:
    """With 5 points over 24 layers the inner ones lie between layers, where no ratio can be read off."""
    rng = random.Random(2)
    for num_points in range(2, num_layers + 1):
        points = [rng.uniform(0.0, 1.5) for _ in range(num_points)]
        laid_out = build_space(tower(num_layers), ["ja"], {"curve": num_points}, None, RANGES, ["weight"])
        ratios = fixed_ratios(tower(num_layers), ["ja"], {"ja": {"weight": points}})
        wanted = [points[0], *points, points[-1]]  # the embeddings, the curve, the head
        assert encode(laid_out, ratios) == pytest.approx([point / 1.5 for point in wanted], abs=1e-9)


def test_encode_fits_ratios_that_are_no_curve_with_the_least_squared_error() -> None:
    laid_out = build_space(tower(9), ["ja"], {"curve": 3}, ["attention", "mlp"], RANGES, ["weight"])
    rng = random.Random(3)
    wanted = {slot: {"ja": Ratio(rng.uniform(0.6, 0.9))} for slot in laid_out.slots}

    def error(genome: list[float]) -> float:
        found = laid_out.decode(genome)
        return math.fsum((found[slot]["ja"].weight - wanted[slot]["ja"].weight) ** 2 for slot in laid_out.slots)

    fitted = encode(laid_out, wanted)
    for position in range(len(fitted)):
        for step in (-1e-3, 1e-3):
            assert error([n + step * (i == position) for i, n in enumerate(fitted)]) > error(fitted)


@pytest.mark.parametrize("coarse", [("global", None), ({"groups": 2}, None), ({"curve": 3}, None)])
@pytest.mark.parametrize("fine", [("per_layer", None), ({"curve": 7}, ["attention", "mlp"]), ("per_layer", "roles")])
def test_a_finer_space_holds_the_ratios_of_a_coarser_one(coarse: tuple[Any, Any], fine: tuple[Any, Any]) -> None:
    coarser, finer = space(7, *coarse), space(7, *fine)
    ratios = coarser.decode([random.Random(index).random() for index in range(len(coarser.genes))])
    again = finer.decode(encode(finer, ratios))
    for slot in ratios:
        for parent in ("vlm", "ja"):
            for parameter in BOTH:
                before, after = (getattr(each[slot][parent], parameter) for each in (ratios, again))
                assert after == pytest.approx(before, abs=1e-12)


def test_the_ends_of_a_range_are_met_exactly() -> None:
    for low, high in [(0.1, 1.0), (0.3, 0.9), (-0.7, 1.1), (0.0, 1.5)]:
        gene = Gene("vlm", "weight", "", {}, low, high)
        assert gene.to_value(0.0) == low
        assert gene.to_value(1.0) == pytest.approx(high, abs=1e-15)
        assert gene.to_value(1.0) <= high


@pytest.mark.parametrize(("depth", "split"), LAYOUTS)
def test_each_gene_moves_only_its_own_slots_and_parameter(depth: object, split: object) -> None:
    laid_out = space(7, depth, split)
    before = laid_out.decode(laid_out.center(0.5))
    for position, gene in enumerate(laid_out.genes):
        values = laid_out.center(0.5)
        values[position] = 0.75
        after = laid_out.decode(values)
        moved = {(slot, name) for slot in after for name in after[slot] if after[slot][name] != before[slot][name]}
        assert moved == {(slot, gene.parent) for slot in gene.shares}
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


def test_describe_counts_places_right_where_a_parents_name_has_dots() -> None:
    """Places were once cut out of the genes' names, so `qwen2.5` was taken for a parent `qwen2` and a place `5`."""
    laid_out = build_space(tower(2), ["vlm", "qwen2.5"], "global", None, RANGES, ["weight"])
    assert laid_out.describe().endswith("for each of vlm, qwen2.5; in the whole language tower")
