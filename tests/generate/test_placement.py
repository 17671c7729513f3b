"""Which device, why, and whether there is room: decided and told before a weight is read, here on invented machines."""

from pathlib import Path
from typing import Any

import pytest
import torch

from vlmmerge import estimate
from vlmmerge.errors import VlmMergeError
from vlmmerge.estimate import describe_machine, describe_plan
from vlmmerge.generate import LiveVlm, placement
from vlmmerge.generate.placement import (
    HOST,
    Placement,
    choose_placement,
    describe_placement,
    free_memory,
    place_model,
)
from vlmmerge.generate.sharing import check_shared, fewest_gpus, gpus_for_each
from vlmmerge.generate.skeleton import make_skeleton, parameter_bytes
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import Generate, load_recipe
from vlmmerge.run import gpus_of_actor

GIB = 2**30
CPU, CUDA = torch.device("cpu"), [torch.device("cuda", number) for number in range(4)]
DEMO = Path(__file__).parents[2] / "recipes" / "demo-parents" / "vlm"


@pytest.fixture(scope="module")
def model() -> Any:
    return make_skeleton(DEMO, Generate())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """Free bytes by device, in place of this machine's; two GPUs and the host at first."""
    free: dict[str, int | None] = {"cuda:0": 24 * GIB, "cuda:1": 24 * GIB, "cpu": 100 * GIB}
    for module in (placement, estimate):
        monkeypatch.setattr(module, "free_memory", lambda device: free[str(device)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free) - 1)
    return free


def size(model: Any) -> int:
    return sum(parameter_bytes(model).values())


def placed(model: Any, *gpus: float, host: float = 0.0) -> Placement | None:
    """The placement on GPUs, and a host, whose free memory is given in sizes of the model."""
    free = {number: int(share * size(model)) for number, share in enumerate(gpus)}
    return choose_placement(model, free, int(host * size(model)))


def test_a_skeleton_has_the_bytes_of_the_checkpoint_and_no_weights(model: Any) -> None:
    assert all(parameter.is_meta for parameter in model.parameters())
    file_bytes = sum(file.stat().st_size for file in DEMO.glob("*.safetensors"))
    assert 0 <= file_bytes - size(model) < 0.01 * file_bytes, "the file has a header"
    assert size(make_skeleton(DEMO, Generate(dtype="bfloat16"))) == size(model) // 2


@pytest.mark.parametrize(
    ("gpus", "number", "why"),
    [
        ((1.2,), 0, "the only GPU"),
        ((1.2, 1.2), 0, "the first of 2 GPUs with room for it"),
        ((1.0, 1.2), 1, "the first of 2 GPUs with room for it"),  # the first would have no room for caches
        ((0.2, 0.3, 5.0), 2, "the first of 3 GPUs with room for it"),
    ],
)
def test_a_model_goes_to_the_first_gpu_that_has_room_for_all_of_it(
    model: Any, gpus: tuple[float, ...], number: int, why: str
) -> None:
    assert placed(model, *gpus) == Placement(CUDA[number], why, {"": number})


@pytest.mark.parametrize("gpus", [(0.8, 0.8), (0.6, 0.6, 0.6), (1.1, 0.5)], ids=str)
def test_a_model_that_no_gpu_has_room_for_is_divided_in_order_and_within_what_each_has(
    model: Any, gpus: tuple[float, ...]
) -> None:
    found = placed(model, *gpus)
    assert found and found.is_spread and not found.has_waiting
    assert found.why == f"layers over {len(gpus)} of {len(gpus)} GPUs, for none alone has room"
    weights = found.share_out(parameter_bytes(model))
    assert sum(weights.values()) == size(model)
    assert all(weights[CUDA[number]] <= 0.8 * share * size(model) for number, share in enumerate(gpus))
    layers = [found.where(f"model.language_model.layers.{number}.mlp.up_proj.weight") for number in range(6)]
    assert layers == sorted(layers, key=lambda device: device.index), "what passes from layer to layer goes one way"
    assert found.device == found.where("model.language_model.embed_tokens.weight")


def test_gpus_alike_share_evenly(model: Any) -> None:
    found = placed(model, 0.8, 0.8)
    assert found
    first, second = found.share_out(parameter_bytes(model)).values()
    assert 0.8 < first / second < 1.25


def test_no_layer_is_cut(model: Any) -> None:
    found = placed(model, 0.6, 0.6, 0.6)
    assert found
    for number in range(6):
        layer = f"model.language_model.layers.{number}."
        names = [name for name in parameter_bytes(model) if name.startswith(layer)]
        assert len({found.where(name) for name in names}) == 1


def test_what_no_gpu_has_room_for_waits_in_host_memory(model: Any) -> None:
    found = placed(model, 1.0, host=1.0)
    assert found and found.has_waiting and found.device == CUDA[0]
    assert found.why == "some layers wait in host memory, which is slow, for all GPUs (1) are too small"
    weights = found.share_out(parameter_bytes(model))
    assert set(weights) == {CUDA[0], CPU} and sum(weights.values()) == size(model)
    assert found.devices == {CUDA[0], CPU}
    assert found.device_map["lm_head"] == HOST


def test_where_all_memory_is_too_little_there_is_no_place(model: Any) -> None:
    assert placed(model, 0.3, 0.3, host=0.2) is None


def test_a_parameter_lies_where_the_longest_module_of_its_name_lies() -> None:
    found = Placement(CUDA[0], "", {"model": 0, "model.layers.1": 1, "lm_head": HOST})
    assert found.where("model.layers.1.mlp.weight") == CUDA[1]
    assert found.where("model.layers.10.mlp.weight") == found.where("model.norm.weight") == CUDA[0]
    assert found.where("lm_head.weight") == CPU
    assert Placement(CPU, "").where("model.norm.weight") == CPU
    assert Placement(CUDA[1], "", {"": 1}).where("model.norm.weight") == CUDA[1]


@pytest.mark.parametrize(("share", "needed"), [(1.2, 1), (0.9, 2), (0.5, 4), (0.01, 8)])
def test_an_actor_needs_as_few_gpus_as_hold_a_model(model: Any, share: float, needed: int) -> None:
    assert fewest_gpus(model, dict.fromkeys(range(8), int(share * size(model)))) == needed


def test_more_actors_than_there_are_gpus_for_are_refused() -> None:
    assert gpus_for_each(8, 4, 2) == 2.0 and gpus_for_each(8, 3, 2) == 2.0 and gpus_for_each(8, 2, 3) == 4.0
    with pytest.raises(VlmMergeError) as caught:
        gpus_for_each(8, 5, 2)
    assert caught.value.message == "search.actors: 5 actors with a model over 2 GPUs each need 10 GPUs; there are 8"
    assert caught.value.hint == "`search.actors: 4`"
    with pytest.raises(VlmMergeError) as caught:
        gpus_for_each(8, 2, 8)
    assert caught.value.hint == "`search.actors: 0`: one model takes them all"


def test_actors_that_have_no_room_on_a_gpu_together_are_refused(model: Any) -> None:
    """The last ones would wait in host memory: slow, and nobody told."""
    num_bytes = size(model)
    gpus = {0: 3 * num_bytes, 1: int(2.4 * num_bytes)}
    check_shared(model, gpus, 4)
    with pytest.raises(VlmMergeError) as caught:
        check_shared(model, gpus, 5)
    assert caught.value.message == (
        f"search.actors: 3 actors on a GPU need {3 * num_bytes / GIB:.2f} GiB for their models, and "
        f"{2.4 * num_bytes / GIB:.2f} GiB are free"
    )
    assert caught.value.hint == "`search.actors: 4`"
    check_shared(model, {0: 10}, 1)
    with pytest.raises(VlmMergeError) as caught:
        check_shared(model, {0: num_bytes}, 2)
    assert caught.value.hint == "`search.actors: 0`"


def test_a_place_is_told_with_why_and_with_what_it_has_room_for() -> None:
    alone = Placement(CUDA[1], "the first of 2 GPUs with room for it", {"": 1})
    weights, free = {CPU: 43 * GIB, CUDA[1]: 15 * GIB}, {CUDA[1]: 24 * GIB, CPU: 100 * GIB}
    assert describe_placement(alone, weights, free) == (
        "the first of 2 GPUs with room for it: cuda:1 15.00 GiB of weights, 24.00 GiB free; "
        "host memory 43.00 GiB of weights, 100.00 GiB free"
    )
    on_cpu = Placement(CPU, "as the recipe says")
    assert describe_placement(on_cpu, {CPU: 3 * GIB}, {CPU: 2 * GIB}) == (
        "as the recipe says: cpu 3.00 GiB of weights, 2.00 GiB free, which is too little"
    )
    assert describe_placement(on_cpu, {CPU: 3 * GIB}, {CPU: None}) == "as the recipe says: cpu 3.00 GiB of weights"


def test_a_recipe_chooses_all_gpus_or_the_one_that_it_names(machine: dict[str, int | None]) -> None:
    first = Placement(CUDA[0], "the first of 2 GPUs with room for it", {"": 0})
    assert place_model(DEMO, Generate()) == place_model(DEMO, Generate(device="cuda")) == first
    assert place_model(DEMO, Generate(device="cuda:1")) == Placement(CUDA[1], "as the recipe says", {"": 1})
    assert place_model(DEMO, Generate(device="cpu")) == Placement(CPU, "as the recipe says")
    machine["cuda:0"] = 1000
    assert place_model(DEMO, Generate()).device == CUDA[1]


def test_a_model_that_nothing_has_room_for_is_refused_before_it_is_read(
    parents: Path, machine: dict[str, int | None]
) -> None:
    machine.update({"cuda:0": 1000, "cuda:1": 2000, "cpu": 1000})
    with pytest.raises(VlmMergeError) as caught:
        LiveVlm(parents / "vlm", Generate())
    assert caught.value.message == f"{parents / 'vlm'} has 0.00 GiB of weights, and there is no room for them"
    assert list(caught.value.details) == [
        "cuda:0: 0.00 GiB free",
        "cuda:1: 0.00 GiB free",
        "host memory: 0.00 GiB free",
    ]
    assert caught.value.hint == placement.LARGER


def plan_of(parents: Path, *overrides: str) -> Plan:
    return make_plan(load_recipe(parents / "recipe.yaml", overrides), has_weights=False)


@pytest.mark.parametrize(
    ("overrides", "each"),
    [
        (("search.actors=2",), 1.0),
        (("search.actors=5",), 0.3333),
        (("search.actors=1",), None),  # one actor is none
        (("search.actors=2", "generate.device=cuda:1"), None),  # all see that one
        (("search.actors=2", "generate.device=cpu"), None),
    ],
)
def test_each_actor_gets_a_gpu_or_its_share_of_one(
    parents: Path, machine: dict[str, int | None], overrides: tuple[str, ...], each: float | None
) -> None:
    assert gpus_of_actor(plan_of(parents, *overrides)) == each


def test_a_dry_run_tells_what_an_actor_has(parents: Path, machine: dict[str, int | None]) -> None:
    of_own = describe_machine(plan_of(parents, "search.actors=2"))["device"]
    assert of_own.startswith("2 actors, each on 1 of 2 GPUs: cuda:0 0.00 GiB of weights, 24.00 GiB free")
    shared = describe_machine(plan_of(parents, "search.actors=5"))["device"]
    assert shared.startswith("5 actors, 3 on a GPU: cuda:0 0.00 GiB of weights, 24.00 GiB free")
    num_bytes = sum(parameter_bytes(make_skeleton(parents / "vlm", Generate())).values())
    machine.update({"cuda:0": int(0.95 * num_bytes), "cuda:1": int(0.95 * num_bytes)})
    with pytest.raises(VlmMergeError, match="2 actors with a model over 2 GPUs each need 4 GPUs; there are 2"):
        describe_machine(plan_of(parents, "search.actors=2"))
    spread = describe_machine(plan_of(parents))["device"]
    assert spread.startswith(
        "layers over 2 of 2 GPUs, for none alone has room: cuda:0 0.00 GiB of weights, 0.00 GiB free"
    )


def test_the_hosts_free_memory_is_what_the_system_says() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50


def test_a_dry_run_tells_device_and_attention(parents: Path) -> None:
    described = describe_plan(
        make_plan(load_recipe(parents / "recipe.yaml", ["generate.device=cpu"]), has_weights=False)
    )
    assert described["device"].startswith("as the recipe says: cpu 0.00 GiB of weights, ")
    assert described["attention"] == "sdpa"
