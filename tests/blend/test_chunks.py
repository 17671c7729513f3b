"""Chunks give the bits of the plain formulas on whole slots, whatever their length, the threads and the order."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from vlmmerge.blend import DEFAULTS, METHODS, Options, blend_slot, chunks, cuts, looped, passes, sums
from vlmmerge.blend.chunks import blend_in_chunks
from vlmmerge.blend.cuts import Cut, count_magnitudes, counter_of, find_cut
from vlmmerge.blend.launch import ONE_PASS, has_launch
from vlmmerge.blend.passes import Job
from vlmmerge.blend.sparsify import trim
from vlmmerge.blend.work import SlotWork
from vlmmerge.blend.workers import Workers
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio

T = TypeVar("T")
SLOT = "layers.3.mlp.gate_proj.weight"
SHAPE = (61, 67)
NAMES = ("vlm", "ja", "en")
RATIOS = {
    "sparse": [Ratio(0.9, 0.5, 0.02, 0.1), Ratio(0.41, 0.3, 0.6, 0.3), Ratio(-0.77, 0.8, 0.1, 0.2)],
    "sparse and positive": [Ratio(0.9, 0.5), Ratio(0.41, 0.3, 0.01, 0.15), Ratio(0.77, 0.8, 0.5, 0.5)],
    "one parent": [Ratio(0.0, 0.5), Ratio(0.41, 0.3, 0.1, 0.2), Ratio(0.0, 0.8)],
    "one of them out": [Ratio(0.9, 0.7, 0.05, 0.1), Ratio(0.0), Ratio(0.77, 0.4, 0.2, 0.4)],
    "one of them whole": [Ratio(1.0, 1.0), Ratio(0.0, 0.3), Ratio(0.0, 0.8)],
    "all dense": [Ratio(0.9, 1.0, 0.1, 0.1), Ratio(0.41), Ratio(0.77)],
    "next to nothing kept": [Ratio(0.9, 1e-5), Ratio(0.41, 1e-3), Ratio(0.77, 0.9999, 0.5)],
}
OPTIONS = {
    "normalize": Options(normalize=True),
    "not normalized": Options(normalize=False),
    "rescaled": Options(rescale=True),
    "rescaled by norm": Options(rescale="l1", lambda_=0.7),
    "not rescaled": Options(rescale=False),
    "elected otherwise": Options(majority_sign_method="frequency", majority_sign_tie="positive", lambda_=-1.3),
    "selected": Options(select_topk=0.4, filter_wise=True),
}


@pytest.fixture(scope="module", params=[1, 2, 3])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    made = Workers()
    torch.set_num_threads(before)
    yield made
    made.close()


def towers(dtype: torch.dtype, kind: str = "noise", shape: tuple[int, ...] = SHAPE) -> list[Tensor]:
    """A base and three parents, with -0.0 among them; `coarse` differences have many equal magnitudes."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(shape, generator=generator)
    steps = [torch.randn(shape, generator=generator) * 0.1 for _ in NAMES]
    if kind == "coarse":
        base, steps = (base * 4).round() / 4, [(step * 20).round() / 4 for step in steps]
    made = [tensor.to(dtype) for tensor in [base, *(base + step for step in steps)]]
    for tensor in made:
        tensor.view(-1)[::7] = -0.0
    return made


def taken(method: str, of_parents: list[T]) -> dict[str, T]:
    """By name, as many as the method takes."""
    return dict(list(zip(NAMES, of_parents, strict=True))[: int(min(METHODS[method].most_parents, 3))])


def outcome(blend: Callable[[], Tensor]) -> Tensor | str:
    """The blended tensor, or why there is none."""
    try:
        return blend()
    except VlmMergeError as error:
        return str(error)


def check_chunks(
    method: str, ratios: list[Ratio], tensors: list[Tensor], workers: Workers, options: Options = DEFAULTS
) -> None:
    (base, *parents), dtype = tensors, tensors[0].dtype
    of_parents, of_ratios = taken(method, parents), taken(method, ratios)
    whole = outcome(
        lambda: blend_slot(method, base, of_parents, of_ratios, seed=3, slot=SLOT, options=options).to(dtype)
    )
    ways = [blend_chunked, blend_in_memory, blend_without_loops] if has_launch(method, options) else [blend_chunked]
    for blend in ways:
        chunked = outcome(partial(blend, method, tensors, ratios, workers, options))
        if isinstance(whole, str) or isinstance(chunked, str):
            assert chunked == whole and method in ("sce", "linear", "slerp")
        else:
            assert same_bits(chunked, whole), blend


def cut_everywhere(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    monkeypatch.setattr(passes, "CHUNK", length)
    monkeypatch.setattr(chunks, "TASK", 2 * length)
    monkeypatch.setattr(cuts, "SMALLEST_PIECE", length)
    for module in (sums, passes):
        monkeypatch.setattr(module, "WIDTH", 32)


def blend_chunked(
    method: str,
    tensors: list[Tensor],
    ratios: list[Ratio],
    workers: Workers,
    options: Options = DEFAULTS,
    tables: dict[str, Tensor] | None = None,
    *,
    has_memory: bool = False,
) -> Tensor:
    written = torch.full_like(tensors[0], torch.nan)

    def write(start: int, chunk: Tensor) -> int:
        written.view(-1)[start : start + chunk.numel()] = chunk
        return chunk.nbytes

    base, *parents = (partial(lambda flat, start, stop: flat[start:stop], tensor.flatten()) for tensor in tensors)
    of_parents, of_ratios = taken(method, parents), taken(method, ratios)
    work = SlotWork(SLOT, written.shape, written.dtype, base, of_parents, of_ratios, write, tables)
    if has_memory:
        work = replace(work, memory=written.view(-1))
    num_bytes = sum(blend_in_chunks(method, 3, options, [work], workers))
    assert num_bytes == written.numel() * written.element_size()
    return written


blend_in_memory = partial(blend_chunked, has_memory=True)


def blend_without_loops(*arguments: Any) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looped, "has_loops", lambda: False)
        return blend_chunked(*arguments)


def same_bits(one: Tensor, two: Tensor) -> bool:
    integers = {2: torch.int16, 4: torch.int32}[one.element_size()]
    return one.dtype == two.dtype and torch.equal(one.view(integers), two.view(integers))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ratios", RATIOS.values(), ids=RATIOS)
@pytest.mark.parametrize("kind", ["noise", "coarse"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("length", [333, 10**6])
def test_chunks_give_the_bits_of_the_whole_slot(
    method: str,
    ratios: list[Ratio],
    kind: str,
    dtype: torch.dtype,
    length: int,
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut_everywhere(monkeypatch, length)
    check_chunks(method, ratios, towers(dtype, kind), workers)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ratios", RATIOS.values(), ids=RATIOS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("workers", [2], indirect=True)
def test_chunks_give_the_bits_of_the_whole_slot_with_any_options(
    method: str, ratios: list[Ratio], options: Options, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_everywhere(monkeypatch, 333)
    check_chunks(method, ratios, towers(torch.bfloat16, "coarse"), workers, options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(4087,), (1, 999), (999, 1), (7, 11, 13), (128, 8), (5, 700), (3,), (), (0, 5)])
@pytest.mark.parametrize("options", [DEFAULTS, OPTIONS["rescaled by norm"], OPTIONS["selected"]], ids=["", "l1", "sel"])
@pytest.mark.parametrize("workers", [2], indirect=True)
def test_chunks_give_the_bits_of_a_whole_slot_of_any_shape(
    method: str, shape: tuple[int, ...], options: Options, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_everywhere(monkeypatch, 100)
    check_chunks(method, RATIOS["sparse and positive"], towers(torch.bfloat16, "noise", shape), workers, options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [DEFAULTS, OPTIONS["rescaled by norm"]], ids=["", "l1"])
@pytest.mark.parametrize("workers", [2], indirect=True)
def test_chunks_of_their_true_length_give_the_bits_of_the_whole_slot(
    method: str, options: Options, workers: Workers
) -> None:
    check_chunks(method, RATIOS["sparse and positive"], towers(torch.bfloat16, "noise", (192, 2048)), workers, options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [DEFAULTS, *OPTIONS.values()], ids=["defaults", *OPTIONS])
@pytest.mark.parametrize("workers", [2], indirect=True)
def test_tables_that_stay_from_candidate_to_candidate_move_no_bit(
    method: str, options: Options, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_everywhere(monkeypatch, 333)
    tensors, tables = towers(torch.bfloat16, "coarse"), dict[str, Tensor]()
    for ratios in (RATIOS["sparse and positive"], RATIOS["one of them out"], RATIOS["next to nothing kept"]):
        found = outcome(partial(blend_chunked, method, tensors, ratios, workers, options, tables))
        afresh = outcome(partial(blend_chunked, method, tensors, ratios, workers, options))
        assert found == afresh if isinstance(found, str) else same_bits(found, afresh)


@pytest.mark.parametrize(("method", "num_reads"), [("ties", 3), ("breadcrumbs", 4), ("della", 2), ("slerp", 2)])
@pytest.mark.parametrize("workers", [2], indirect=True)
def test_a_table_saves_the_second_candidate_a_pass_over_each_parent(
    method: str, num_reads: int, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Magnitudes are all different, so that no piece is read once more to find the last one that is kept."""
    cut_everywhere(monkeypatch, 1000)
    parent, num_read, tables = torch.linspace(1, 2, 10_000), 0, dict[str, Tensor]()

    def read(start: int, stop: int) -> Tensor:
        nonlocal num_read
        num_read += stop - start
        return parent[start:stop]

    reads = {"vlm": read, "ja": lambda start, stop: parent[start:stop] * 3}
    taken = []
    for density in (0.5, 0.7):
        ratios, num_read = dict.fromkeys(reads, Ratio(0.6, density, 0.1, 0.2)), 0
        work = SlotWork(
            SLOT, torch.Size([10, 1000]), torch.float32, lambda start, stop: torch.zeros(stop - start),
            reads, ratios, lambda *_: 0, tables,
        )  # fmt: skip
        list(blend_in_chunks(method, 0, DEFAULTS, [work], workers))
        taken.append(num_read // 1000)
    assert taken == [10 * num_reads, 10 * num_reads - 10]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [DEFAULTS, *OPTIONS.values()], ids=["defaults", *OPTIONS])
@pytest.mark.parametrize("workers", [2], indirect=True)
def test_no_method_needs_a_whole_slot_at_once(
    method: str, options: Options, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_everywhere(monkeypatch, 333)
    longest, base = 0, torch.zeros(SHAPE).flatten()

    def read(start: int, stop: int) -> Tensor:
        nonlocal longest
        longest = max(longest, stop - start)
        return base[start:stop]

    ratios = taken(method, RATIOS["sparse and positive"])
    work = SlotWork(SLOT, torch.Size(SHAPE), torch.float32, read, dict.fromkeys(ratios, read), ratios, lambda *_: 0)
    list(blend_in_chunks(method, 0, options, [work], workers))
    assert longest <= 333 + 2 * SHAPE[1]  # sums that are cut by another length than rows read these whole


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.is_elementwise])
def test_elementwise_methods_give_each_element_from_itself_alone(method: str) -> None:
    base, *parents = towers(torch.float32)
    ratios = dict(zip(NAMES, RATIOS["sparse"], strict=True))
    whole = blend_slot(method, base, dict(zip(NAMES, parents, strict=True)), ratios, seed=1, slot=SLOT).flatten()
    for start, stop in itertools.pairwise([0, 1, 8, 700, base.numel()]):
        piece = {name: parent.flatten()[start:stop] for name, parent in zip(NAMES, parents, strict=True)}
        blended = blend_slot(method, base.flatten()[start:stop], piece, ratios, seed=1, slot=SLOT, start=start)
        assert same_bits(blended, whole[start:stop])


def test_a_parent_of_weight_0_is_never_read_nor_is_a_base_that_takes_no_part(workers: Workers) -> None:
    def refuse(start: int, stop: int) -> Tensor:
        raise AssertionError("read")

    ones = torch.ones(4)
    work = SlotWork(
        SLOT, torch.Size([4]), torch.float32, refuse, {"vlm": refuse, "ja": lambda start, stop: ones[start:stop]},
        {"vlm": Ratio(0.0), "ja": Ratio(0.5)}, lambda start, chunk: chunk.nbytes,
    )  # fmt: skip
    assert list(blend_in_chunks("linear", 0, DEFAULTS, [work], workers)) == [16]


def test_a_blend_that_is_not_finite_names_its_slot_and_nothing_after_it_is_written(workers: Workers) -> None:
    written: list[str] = []

    def write(number: int, start: int, chunk: Tensor) -> int:
        written.append(f"slot {number}")
        return chunk.nbytes

    works = [
        SlotWork(
            f"slot {number}", torch.Size([4]), torch.float16, lambda start, stop: torch.zeros(stop - start),
            {"vlm": lambda start, stop: torch.ones(stop - start)}, {"vlm": Ratio(1e9 if number == 5 else 0.5)},
            partial(write, number),
        )
        for number in range(500)
    ]  # fmt: skip
    with pytest.raises(VlmMergeError) as caught:
        list(blend_in_chunks("task_arithmetic", 0, DEFAULTS, works, workers))
    assert str(caught.value) == (
        "slot 5: blending by task_arithmetic gives values that are not finite in torch.float16\n"
        "  vlm: weight 1e+09, density 1\n"
        "hint: smaller weights or a higher density may do; look for damaged parents"
    )
    assert "slot 4" in written and "slot 499" not in written


@pytest.mark.parametrize("num_elements", [2, 5, 1000, 30001])
@pytest.mark.parametrize("kind", ["normal", "coarse", "few values", "mostly zero", "denormal"])
@pytest.mark.parametrize("piece", [37, 1000, 2**18])
def test_a_cut_trims_as_the_whole_task_vector_is_trimmed(
    num_elements: int, kind: str, piece: int, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuts, "SMALLEST_PIECE", piece)
    generator = torch.Generator().manual_seed(num_elements)
    noise = torch.randn(num_elements, generator=generator)
    deltas: dict[str, Callable[[], Tensor]] = {
        "normal": lambda: noise,
        "coarse": lambda: noise.bfloat16().float() - noise.roll(1).bfloat16().float(),
        "few values": lambda: (noise * 2).round() * 1e-3,
        "mostly zero": lambda: noise * (noise.abs() > 1.5),
        "denormal": lambda: noise * 1e-40,
    }
    delta = deltas[kind]()

    def read(start: int, stop: int) -> Tensor:
        return delta[start:stop].clone()

    counts = count_magnitudes(counter_of(read), num_elements, workers)
    for density in (0.001, 0.1, 0.5, 0.77, 0.999):
        num_kept = int(density * num_elements)
        if 0 < num_kept < num_elements:
            cut = find_cut(read, counter_of(read), counts, num_kept, workers)
            trimmed = [cut.trim(delta[at : at + 999].clone(), at) for at in range(0, num_elements, 999)]
            assert same_bits(torch.cat(trimmed), trim(delta.clone(), density))


def test_results_come_in_the_tasks_order_though_tasks_are_drawn_only_a_few_ahead(workers: Workers) -> None:
    drawn = 0

    def tasks() -> Iterator[Callable[[], int]]:
        nonlocal drawn
        for number in range(1000):
            drawn += 1
            yield lambda number=number: number  # type: ignore[misc]

    results = workers.map(tasks())
    assert [next(results) for _ in range(10)] == list(range(10))
    assert drawn < 10 + 10 * workers.num_threads
    assert list(results) == list(range(10, 1000))


def test_drawing_a_task_may_itself_share_out_tasks(workers: Workers) -> None:
    def tasks() -> Iterator[Callable[[], int]]:
        for number in range(20):
            total = sum(workers.map([lambda number=number: number] * 3))  # type: ignore[misc]
            yield lambda total=total: total  # type: ignore[misc]

    assert list(workers.map(tasks())) == [3 * number for number in range(20)]


def test_workers_leave_torchs_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            workers = Workers()
            assert torch.get_num_threads() == workers.num_threads == num_threads
            assert list(workers.map([torch.get_num_threads] * 10)) == [1] * 10
            workers.close()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_one_pass_run_in_compiled_loops_and_no_other(method: str, workers: Workers) -> None:
    flat = torch.arange(2000.0)
    reads = dict.fromkeys(taken(method, list(NAMES)).values(), lambda start, stop: flat[start:stop])
    ratios = {name: Ratio(0.5, 0.5, 0.1) for name in reads}
    work = SlotWork(SLOT, flat.shape, flat.dtype, lambda start, stop: flat[start:stop], reads, ratios, lambda *_: 0)
    by_loop = looped.plan_loop(Job(method, 0, DEFAULTS, work, workers), lambda launch: [Cut(0.0, 0.0, 2000)] * 6)
    assert looped.has_loops() and (by_loop is not None) == (method in ONE_PASS)


def test_a_blend_in_memory_that_is_not_finite_names_its_slot(workers: Workers) -> None:
    base, parent = torch.zeros(3000), torch.full((3000,), 1.0)
    parent[2999] = 1e38
    with pytest.raises(VlmMergeError, match=f"{SLOT}: blending by task_arithmetic gives values that are not finite"):
        blend_in_memory(
            "task_arithmetic", [base, parent, parent, parent], [Ratio(4.0), Ratio(1.0), Ratio(1.0)], workers
        )
