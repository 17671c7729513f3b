"""Batches of any size say the same, and memory that runs out makes them smaller."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vlmmerge.cache import cache_folder
from vlmmerge.errors import VlmMergeError
from vlmmerge.evalsets import Sample, load
from vlmmerge.evaluate import Evaluator
from vlmmerge.generate import LiveVlm, answering, batches
from vlmmerge.generate.batches import SMALLEST, fill, find_budget
from vlmmerge.generate.shared import find_shared
from vlmmerge.plan import make_plan
from vlmmerge.recipe import Generate, load_recipe


def no_room_on_a_device() -> None:
    """There is none here: what torch raises where one is full."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def no_room_in_the_process() -> None:
    torch.empty(2**60, dtype=torch.uint8)


def no_room_for_python() -> None:
    bytearray(2**60)


@contextmanager
def room_for(vlm: LiveVlm, num_tokens: int, fail: Callable[[], None]) -> Iterator[list[int]]:
    """Let a model fail for more than `num_tokens` at once; gives the sizes that went through, prefills first."""
    sizes = []

    def check(module: Any, _: Any, inputs: dict[str, Any]) -> None:
        if (size := inputs["inputs_embeds"].shape[:2].numel()) > num_tokens:
            fail()
        sizes.append(size)

    handle = vlm.model.model.language_model.register_forward_pre_hook(check, with_kwargs=True)
    yield sizes
    handle.remove()


@pytest.fixture
def vlm(parents: Path) -> LiveVlm:
    return LiveVlm(parents / "vlm", Generate(max_new_tokens=8))


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return load("ja-scenes", "search_questions", 24)


@pytest.mark.parametrize("fail", [no_room_on_a_device, no_room_in_the_process, no_room_for_python])
def test_memory_that_runs_out_halves_the_batches_and_moves_no_answer(
    vlm: LiveVlm, samples: list[Sample], fail: Callable[[], None]
) -> None:
    prompts = vlm.prepare(samples)
    wanted = vlm.answer(prompts)
    assert vlm.answerer.take_notes() == []
    with room_for(vlm, 100, fail) as sizes:
        assert vlm.answer(prompts) == wanted
    assert 50 < max(sizes) <= 100
    notes = vlm.answerer.take_notes()
    halved = [int(note.removeprefix("out of memory: batches of ").split()[0]) for note in notes]
    assert [f"out of memory: batches of {number} tokens from here on" for number in halved] == notes
    assert len(halved) > 1 and halved == sorted(halved, reverse=True)
    with room_for(vlm, 100, fail):
        assert vlm.answer(prompts) == wanted
    assert vlm.answerer.take_notes() == [], "smaller batches are kept"


def test_one_prompt_that_does_not_fit_is_told(vlm: LiveVlm, samples: list[Sample]) -> None:
    with room_for(vlm, 5, no_room_in_the_process), pytest.raises(VlmMergeError) as caught:
        vlm.answer(vlm.prepare(samples[:3]))
    assert str(caught.value).startswith("one prompt and its answer, ")
    assert str(caught.value).endswith(
        " tokens, do not fit in the memory of cpu\n"
        "hint: smaller pictures, `generate.max_new_tokens` or `beams`, or another `generate.device`"
    )


def test_any_other_fault_of_a_model_is_raised(vlm: LiveVlm, samples: list[Sample]) -> None:
    def fail() -> None:
        torch.ones(2) @ torch.ones(3)

    with room_for(vlm, 5, fail), pytest.raises(RuntimeError, match="size"):
        vlm.answer(vlm.prepare(samples[:3]))


def test_a_candidate_that_ran_out_of_memory_has_its_score_and_a_note(recipe_file: Path) -> None:
    evaluator = Evaluator(make_plan(load_recipe(recipe_file)))
    genome = evaluator.plan.space.center(0.5)
    wanted = evaluator.evaluate(genome)
    assert wanted["status"] == "ok" and "notes" not in wanted
    with room_for(evaluator.vlm, 50, no_room_on_a_device):
        found = evaluator.evaluate(genome)
    assert found.pop("notes")[0].startswith("out of memory: batches of ")
    assert found == wanted


def test_what_many_prompts_begin_with_is_worked_on_once(vlm: LiveVlm, samples: list[Sample]) -> None:
    few = samples[:4]
    many = [
        replace(sample, question=f"{text}何色ですか？") for sample in few for text in ("", "丸は", "星は右に", "はい。")
    ]
    for settings in (vlm.settings, vlm.settings.model_copy(update={"system": "画像を説明してください。" * 8})):
        asked = many if settings.system is None else [replace(sample, question="") for sample in few]
        prompts = vlm.prepare(asked, settings=settings)
        alone = [vlm.answer([prompt])[0] for prompt in prompts]
        with room_for(vlm, 10**6, no_room_on_a_device) as sizes:
            assert vlm.answer(prompts) == alone
        longest = max(len(prompt.token_ids) for prompt in prompts)
        assert sizes[0] + sizes[1] < 0.8 * len(prompts) * longest and sizes[1] >= len(prompts)
    assert find_shared(vlm.prepare(few[:1]), vlm.model.config.image_token_id) is None
    different = [sample for sample in samples if sample.images != samples[0].images][:1] + samples[:1]
    assert find_shared(vlm.prepare(different), vlm.model.config.image_token_id) is None


def test_a_batch_is_worked_on_in_parts_of_bounded_size_and_goes_on_as_one(
    vlm: LiveVlm, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = vlm.prepare(list({sample.images: sample for sample in samples}.values()))
    wanted = vlm.answer(prompts)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    monkeypatch.setattr(answering, "PART_ON_CPU", 2 * longest)
    with room_for(vlm, 10**6, no_room_on_a_device) as sizes:
        assert vlm.answer(prompts) == wanted
    num_parts = sizes.index(len(prompts))  # then all of them go on with one token each
    assert num_parts > 1 and max(sizes) <= 2 * longest
    assert sum(sizes[:num_parts]) < len(prompts) * longest, "a part is no wider than its own longest prompt"


def test_parts_of_one_prompt_each_are_padded_where_they_go_on_together(
    vlm: LiveVlm, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shorter ones read what they were padded with: no part was padded by itself, so none had an attention mask."""
    prompts = vlm.prepare(list({sample.images: sample for sample in samples}.values()))
    assert len({len(prompt.token_ids) for prompt in prompts}) > 1
    wanted = [vlm.answer([prompt])[0] for prompt in prompts]
    monkeypatch.setattr(answering, "PART_ON_CPU", 1)
    assert vlm.answer(prompts) == wanted


def test_a_batch_is_filled_as_if_all_its_rows_were_as_long_as_its_longest() -> None:
    sizes = [10, 10, 10, 11, 20, 50]
    assert [fill(sizes, budget) for budget in (1, 29, 30, 43, 44, 99, 100, 299, 300)] == [1, 2, 3, 3, 4, 4, 5, 5, 6]


def test_the_search_for_a_budget_ends_where_more_is_no_faster_or_does_not_fit_or_takes_long() -> None:
    def launching(tokens: int) -> float:
        return 0.1 + max(tokens, 16_000) * 1e-5

    assert find_budget(launching, 2**20) in (2**17, 2**18, 2**19, 2**20)
    assert find_budget(lambda tokens: tokens * 1e-4, 2**20) in (SMALLEST, 2 * SMALLEST)
    assert find_budget(lambda tokens: launching(tokens) if tokens < 10_000 else None, 2**20) == 2**13
    assert find_budget(lambda tokens: None, 2**20) == SMALLEST
    assert find_budget(lambda tokens: 61.0, 2**20) == SMALLEST
    assert find_budget(lambda tokens: 1.0, 2**14) == 2**14
    once_slow = iter([1.0, 5.0, 1.0, 1.0, 1.0])  # at the second trial the machine had other work
    assert find_budget(lambda tokens: next(once_slow), 2**14) == 2**14
    often_slow = iter([0.1] * 3 + [0.9, 0.9, 0.1] * 3)  # one of three short trials is not disturbed
    assert find_budget(lambda tokens: next(often_slow), 2**14) == 2**14


def test_a_budget_is_searched_once_for_a_model_and_a_machine(
    parents: Path, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VLMMERGE_CACHE", str(tmp_path))
    searched = []
    monkeypatch.setattr(answering, "LARGEST_ON_CPU", SMALLEST)
    monkeypatch.setattr(answering, "WORTH_A_SEARCH", 500)
    search = batches.find_budget
    monkeypatch.setattr(answering, "find_budget", lambda *given: searched.append(given) or search(*given))

    def answers(**settings: Any) -> list[str]:
        vlm = LiveVlm(parents / "vlm", Generate(max_new_tokens=4, **settings))
        prompts = vlm.prepare(samples)
        assert vlm.answer(prompts[:2]) == vlm.answer(prompts)[:2]
        return vlm.answer(prompts)

    first = answers()
    (file,) = (cache_folder("batch_tokens")).iterdir()
    assert len(searched) == 1 and file.read_text() == f"{SMALLEST}\n"
    assert answers() == first and len(searched) == 1
    file.write_text("none")
    assert answers() == first and len(searched) == 2 and file.read_text() == f"{SMALLEST}\n"
    answers(beams=2)
    assert len(searched) == 3, "beams need more memory"
    assert answers(batch_tokens=100) == first and len(searched) == 3
    monkeypatch.setenv("VLMMERGE_CACHE", "/dev/null/nowhere")
    assert answers() == first and len(searched) == 4


def test_who_watches_is_told_how_many_have_their_answers_whatever_the_batches(
    vlm: LiveVlm, samples: list[Sample]
) -> None:
    prompts = vlm.prepare(samples)
    for num_tokens in (100, 10**6):
        told: list[int] = []
        with room_for(vlm, num_tokens, no_room_on_a_device):
            vlm.answerer.answer(prompts, told.append)
        assert told[-1] == len(prompts) and len(set(told)) > 1
        assert all(0 <= number <= len(prompts) for number in told)
