"""evaluate.py: a candidate's score depends on its ratios alone; whatever is wrong with it, it fails with a reason."""

import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlmmerge.blend import METHODS
from vlmmerge.blind import other_samples
from vlmmerge.errors import CheckpointError, EvalsetError, ParentsError
from vlmmerge.evalsets import load
from vlmmerge.evaluate import Evaluator, make_evaluate
from vlmmerge.generate import LiveVlm
from vlmmerge.genome import Ratio
from vlmmerge.plan import make_plan
from vlmmerge.recipe import Generate, load_recipe
from vlmmerge.score import objective

NUM_GENES = 16
GENOMES = [[0.1 * (gene % 10) for gene in range(NUM_GENES)], [0.9 - 0.05 * gene for gene in range(NUM_GENES)]]


def evaluator_of(folder: Path, *overrides: str) -> Evaluator:
    return Evaluator(make_plan(load_recipe(folder / "recipe.yaml", overrides)))


def changed(parents: Path, to: Path, name: str, slot: str, fill: float) -> Path:
    """A copy of the parents in which one tensor of one parent is filled with a number."""
    shutil.copytree(parents, to)
    file = to / name / "model.safetensors"
    tensors = load_file(file)
    (key,) = [key for key in tensors if key.endswith(slot)]
    save_file(tensors | {key: torch.full_like(tensors[key], fill)}, file, metadata={"format": "pt"})
    return to


@pytest.fixture(scope="module")
def evaluator(parents: Path) -> Evaluator:
    return evaluator_of(parents)


def test_a_candidate_gets_a_score_its_metrics_and_a_checksum_of_its_answers(evaluator: Evaluator) -> None:
    result = evaluator.evaluate(GENOMES[0])
    assert set(result) == {"status", "score", "metrics", "answers_sha256"} and result["status"] == "ok"
    assert result["score"] == pytest.approx(result["metrics"]["cider"] + 0.01 * result["metrics"]["chrf"])
    assert result["score"] > 0


def test_a_score_does_not_depend_on_where_the_parents_stay(parents: Path, evaluator: Evaluator) -> None:
    assert evaluator_of(parents, "blend.residency=host").evaluate(GENOMES[0]) == evaluator.evaluate(GENOMES[0])


def test_a_score_does_not_depend_on_the_candidates_before_it(parents: Path, evaluator: Evaluator) -> None:
    first, second = (evaluator.evaluate(genome) for genome in GENOMES)
    assert first != second
    assert evaluator.evaluate(GENOMES[0]) == first
    assert make_evaluate(evaluator.plan.recipe)(GENOMES[1]) == second, "as an actor does it, with a model of its own"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["parents", "tied_parents"])
def test_the_vlm_alone_is_the_vlm_parent_bit_for_bit_and_answers_as_it(
    request: pytest.FixtureRequest, family: str, method: str
) -> None:
    folder = request.getfixturevalue(family)
    blended = evaluator_of(folder, f"blend.method={method}")
    alone = LiveVlm(folder / "vlm", blended.plan.recipe.generate)
    blended.blender.write(blended.plan.uniform({"vlm": 0.5, "ja": 0.5}))
    assert blended.vlm.answer(blended.search_exam.prompts) != alone.answer(blended.search_exam.prompts)
    answers = blended.hold_out(blended.plan.uniform({"vlm": 1.0}))["answers"]
    assert answers == alone.answer(alone.prepare(blended.held_out_exam.samples))
    live, parent = blended.vlm.parameters(), alone.parameters()
    assert live.keys() == parent.keys()
    assert all(torch.equal(live[name].view(torch.int32), parent[name].view(torch.int32)) for name in live)


def test_only_the_language_tower_is_ever_written(parents: Path) -> None:
    written = evaluator_of(parents)
    before = {name: parameter.clone() for name, parameter in written.vlm.parameters().items()}
    written.blender.write(written.plan.uniform({"vlm": 0.3, "ja": 1.2}))
    moved = {name for name, parameter in written.vlm.parameters().items() if not torch.equal(parameter, before[name])}
    assert moved and all("language_model" in name or "lm_head" in name for name in moved)
    assert len(moved) == len(written.plan.anatomy.slots)


def test_a_blend_that_is_not_finite_fails_its_candidates_and_nothing_else(parents: Path, tmp_path: Path) -> None:
    folder = changed(parents, tmp_path / "huge", "ja-llm", "layers.1.mlp.up_proj.weight", 3e38)
    broken = evaluator_of(folder, "blend.method=task_arithmetic", "blend.depth=global")
    whole = evaluator_of(parents, "blend.method=task_arithmetic", "blend.depth=global")
    failed = broken.evaluate([0.5, 1.0])
    assert failed == {
        "status": "failed",
        "score": None,
        "reason": "VlmMergeError: layers.1.mlp.up_proj.weight: blending by task_arithmetic gives values that are not "
        "finite in torch.float32",
    }
    without = [0.6, 0.0]
    assert broken.evaluate(without) == whole.evaluate(without), "weight 0 leaves the broken parent out"


def test_a_parent_with_nan_is_no_candidates_failure(parents: Path, tmp_path: Path) -> None:
    """Every candidate failed with a reason that named no parent."""
    folder = changed(parents, tmp_path / "nan", "ja-llm", "layers.1.mlp.up_proj.weight", math.nan)
    with pytest.raises(CheckpointError) as caught:
        evaluator_of(folder).evaluate(GENOMES[0])
    assert str(caught.value) == (
        f"{folder / 'ja-llm' / 'model.safetensors'} is damaged: 2,048 of 2,048 weights are not finite\n"
        "  `model.layers.1.mlp.up_proj.weight`: 2,048 NaN, 0 infinite\n"
        "hint: fetch the checkpoint again; a parent of weight 0 is left out of a blend"
    )


def test_answers_that_are_all_empty_fail(parents: Path, tmp_path: Path) -> None:
    folder = changed(parents, tmp_path / "mute", "base", "lm_head.weight", 0.0)  # every logit is 0: <unk>, the first
    mute = evaluator_of(folder)
    nothing = mute.plan.uniform({})
    assert mute.evaluate_ratios(lambda: nothing) == {
        "status": "failed",
        "score": None,
        "reason": "VlmMergeError: every answer is empty",
    }
    assert mute.evaluate_ratios(lambda: mute.plan.uniform({"vlm": 1.0}))["status"] == "ok"


@pytest.mark.parametrize(
    ("genome", "reason"),
    [
        ([0.5] * 3, "ValueError: wanted 16 values, one a gene, got 3"),
        ([math.nan] * NUM_GENES, "ValueError: a genome holds finite numbers only, got nan"),
    ],
)
def test_an_exception_inside_is_the_candidates_failure(evaluator: Evaluator, genome: list[float], reason: str) -> None:
    assert evaluator.evaluate(genome) == {"status": "failed", "score": None, "reason": reason}


def test_an_interrupt_is_no_failure(evaluator: Evaluator) -> None:
    def interrupted() -> dict[object, dict[str, Ratio]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate_ratios(interrupted)  # type: ignore[arg-type]


def test_parents_that_cannot_be_blended_are_no_candidates_failure(parents: Path, tmp_path: Path) -> None:
    """Every candidate failed with the same reason, to the end of the run."""
    folder = shutil.copytree(parents, tmp_path / "parents")
    config = folder / "vlm" / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 1', 1))
    with pytest.raises(ParentsError) as caught:
        evaluator_of(folder).evaluate(GENOMES[0])
    assert str(caught.value) == (
        "the loaded VLM lacks 9 of 21 language slots\n"
        "  layers.1.input_layernorm.weight\n"
        "  layers.1.mlp.down_proj.weight\n"
        "  layers.1.mlp.gate_proj.weight\n"
        "  layers.1.mlp.up_proj.weight\n"
        "  layers.1.post_attention_layernorm.weight\n"
        "  layers.1.self_attn.k_proj.weight\n"
        "hint: `parents.vlm` loads otherwise than its files say; a config.json of other weights may be to blame"
    )


def test_a_vlm_that_loads_with_another_head_than_its_files_say_is_refused(tied_parents: Path, tmp_path: Path) -> None:
    """Its file holds no head and its config does not tie one: it would be scored with a random head."""
    folder = shutil.copytree(tied_parents, tmp_path / "parents")
    config = folder / "vlm" / "config.json"
    config.write_text(re.sub(r'"tie_word_embeddings": true,\s*', "", config.read_text()))
    with pytest.raises(ParentsError) as caught:
        evaluator_of(folder).evaluate(GENOMES[0])
    assert str(caught.value) == (
        "the loaded VLM has a head of its own, which its files tie to the embeddings\n"
        "hint: mend `tie_word_embeddings` in its config.json; or `--set blend.embeddings=vlm` keeps the VLM's "
        "embeddings and head as they are, and blends the rest"
    )


def test_held_out_scores_carry_intervals_and_the_reported_metrics(evaluator: Evaluator) -> None:
    record = evaluator.hold_out(evaluator.plan.space.decode(GENOMES[0]))
    assert list(record) == ["scores", "asked", "answers"], "without guards and retention there is nothing else to tell"
    assert len(record["answers"]) == 6 and list(record["scores"]) == ["cider", "chrf", "exact", "japanese"]
    for score in record["scores"].values():
        assert score["low"] <= score["value"] <= score["high"] and score["num_samples"] == 6


def test_held_out_scores_tell_how_was_asked_and_with_which_attention(parents: Path) -> None:
    auto, eager = (
        evaluator_of(parents, f"generate.attention={name}").held_out_exam.asked for name in ("auto", "eager")
    )
    assert auto.startswith("ja-scenes:held_out@") and "|beams:1|penalty:1|max:8|float32|attention:sdpa|" in auto
    assert auto.replace("sdpa", "eager") == eager


GUARDS = "score.guards={japanese: 90, length_ratio: 1, repetition: 0.01, grounding: 1}"


@pytest.fixture(scope="module")
def guarded(parents: Path) -> Evaluator:
    return evaluator_of(parents, GUARDS)


def test_a_guarded_candidate_is_scored_by_what_its_guards_keep(evaluator: Evaluator, guarded: Evaluator) -> None:
    free, result = evaluator.evaluate(GENOMES[0]), guarded.evaluate(GENOMES[0])
    assert list(result) == ["status", "score", "objective", "guards", "metrics", "answers_sha256"]
    assert result["objective"] == free["score"]
    assert {key: result[key] for key in ("metrics", "answers_sha256")} == {
        key: free[key] for key in ("metrics", "answers_sha256")
    }
    kept = [guard["kept"] for guard in result["guards"].values()]
    assert list(result["guards"]) == ["japanese", "length_ratio", "repetition", "grounding"]
    assert result["score"] == pytest.approx(free["score"] * math.prod(kept)) and 0 < result["score"] < free["score"]


def test_grounding_is_what_the_answers_to_other_pictures_leave(guarded: Evaluator) -> None:
    """Of captions every such answer is known: it is the other picture's own."""
    exam = guarded.search_exam
    assert exam.others and exam.unasked == []
    guarded.blender.write(guarded.plan.space.decode(GENOMES[0]))
    other = guarded.vlm.answer(guarded.vlm.prepare(other_samples(exam.samples)))
    assert other != guarded.vlm.answer(exam.prompts)
    right, wrong = (
        objective(exam.scorer.score(answers, intervals=False), guarded.weights)
        for answers in (guarded.vlm.answer(exam.prompts), other)
    )
    found = guarded.evaluate(GENOMES[0])["guards"]["grounding"]
    assert found["value"] == found["kept"] == pytest.approx(max(0.0, 1 - wrong / right))


def test_questions_that_only_one_sample_is_asked_are_asked_again_with_another_picture(parents: Path) -> None:
    overrides = ["evalset.search={name: ja-scenes, split: search_questions, samples: 5}", "generate.question="]
    asked_twice = evaluator_of(parents, *overrides, "score={objective: {chrf: 1}, guards: {grounding: 0.1}}")
    exam = asked_twice.search_exam
    assert exam.others and len(exam.unasked) == len(exam.others.unasked) > 0
    result = asked_twice.evaluate(GENOMES[0])
    asked_twice.blender.write(asked_twice.plan.space.decode(GENOMES[0]))
    other = asked_twice.vlm.answer(asked_twice.vlm.prepare(other_samples(exam.samples)))
    wrong = exam.scorer.score(other, intervals=False)["chrf"].value
    assert result["guards"]["grounding"]["value"] == pytest.approx(max(0.0, 1 - wrong / result["metrics"]["chrf"]))
    once = evaluator_of(parents, *overrides, "score={objective: {chrf: 1}}").evaluate(GENOMES[0])
    assert result["answers_sha256"] == once["answers_sha256"], "what else is asked moves no answer"


def test_held_out_records_tell_what_the_guards_found(guarded: Evaluator) -> None:
    record = guarded.hold_out(guarded.plan.space.decode(GENOMES[0]))
    assert list(record) == ["scores", "asked", "answers", "guarded"]
    assert list(record["guarded"]) == ["score", "objective", "guards"]
    values = {name: score["value"] for name, score in record["scores"].items()}
    assert record["guarded"]["objective"] == pytest.approx(values["cider"] + 0.01 * values["chrf"])
    assert record["guarded"]["score"] < record["guarded"]["objective"]


def test_retention_asks_in_the_vlms_own_language_whatever_the_recipe_asks_and_says(parents: Path) -> None:
    system = "generate.system=日本語で答えてください。"
    asked = evaluator_of(parents, "evalset.retention={name: ja-scenes, split: held_out_english, samples: 3}", system)
    record = asked.hold_out(asked.plan.uniform({"vlm": 1.0}))
    alone = LiveVlm(parents / "vlm", Generate(max_new_tokens=8))
    samples = load("ja-scenes", "held_out_english", 3)
    assert record["retention"]["answers"] == alone.answer(alone.prepare(samples))
    assert record["retention"]["answers"] != record["answers"][:3]
    assert "|system:" in record["asked"] and "|system:" not in record["retention"]["asked"]
    assert record["retention"]["asked"].startswith("ja-scenes:held_out_english@")
    assert list(record["retention"]["scores"]) == ["cider"]
    assert record["retention"]["scores"]["cider"]["num_samples"] == 3


@pytest.mark.parametrize("held_out", ["{name: ja-scenes, split: search_questions}", "{name: ja-scenes, split: search}"])
def test_search_pictures_are_never_held_out(parents: Path, held_out: str) -> None:
    """Splits of other names but of one file went through."""
    split = held_out.split()[-1].rstrip("}")
    searched = "search_english" if split == "search" else "search"
    overrides = [f"evalset.held_out={held_out}", f"evalset.search.split={searched}", f"evalset.finals.split={searched}"]
    with pytest.raises(EvalsetError) as caught:
        make_plan(load_recipe(parents / "recipe.yaml", overrides))
    assert str(caught.value) == (
        f"search and held-out data share their pictures: ja-scenes:{searched} and ja-scenes:{split}\n"
        "hint: hold out a split that the search never sees"
    )


def test_finals_pictures_are_never_held_out(parents: Path) -> None:
    overrides = [
        "evalset.search={name: ja-scenes, split: held_out}",
        "evalset.held_out={name: ja-scenes, split: search_english}",
    ]
    with pytest.raises(EvalsetError, match="share their pictures: ja-scenes:search and ja-scenes:search_english"):
        make_plan(load_recipe(parents / "recipe.yaml", overrides))


def test_retention_pictures_are_never_searched_on(parents: Path) -> None:
    with pytest.raises(EvalsetError, match="share their pictures: ja-scenes:search and ja-scenes:search_english"):
        make_plan(load_recipe(parents / "recipe.yaml", ["evalset.retention={name: ja-scenes, split: search_english}"]))


def test_a_plan_with_too_few_samples_is_refused(parents: Path) -> None:
    """Every candidate failed with that reason, to the end of the run."""
    with pytest.raises(EvalsetError, match="ja-scenes:search has 256 samples, 300 were asked for"):
        make_plan(load_recipe(parents / "recipe.yaml", ["evalset.search.samples=300"]))
