"""exam.py: what a recipe says of scoring reaches the metrics, and a search that is judged."""

from pathlib import Path
from typing import get_args

import pytest

from tests.score.judge.fakejudge import Reply, serving
from tests.score.tinyclip import write_clip
from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.errors import ScoreError
from vlmmerge.evalsets import Sample, load
from vlmmerge.evaluate import Evaluator
from vlmmerge.exam import ScoreSettings, make_scorer, make_targets, settings_of
from vlmmerge.plan import make_plan
from vlmmerge.recipe import EvalsetChoice, load_recipe
from vlmmerge.recipe import Score as ScoreSection
from vlmmerge.run import run_fields
from vlmmerge.score import Judge, possible, prepare
from vlmmerge.score.segment import SEGMENTERS, segmenter_name

SAMPLES = [Sample("a", (b"png",), "何？", ("白い犬",), context="犬の写真"), Sample("b", (b"png",), "何色？", ("赤",))]


def test_a_recipes_score_section_becomes_settings() -> None:
    section = ScoreSection.model_validate(
        {
            "objective": {"cider": 1.0},
            "segmenter": "ipadic",
            "clip": "org/clip",
            "judge": {"url": "http://localhost:8000/v1", "model": "tiny", "sends_images": True},
        }
    )
    judge = Judge("http://localhost:8000/v1", "tiny", sends_images=True)
    assert settings_of(section) == ScoreSettings("ipadic", "org/clip", judge)
    assert settings_of(ScoreSection(objective={"cider": 1.0})) == ScoreSettings()


def test_a_recipe_may_name_every_segmenter() -> None:
    assert get_args(ScoreSection.model_fields["segmenter"].annotation) == tuple(SEGMENTERS)


def test_settings_reach_the_metrics(tmp_path: Path) -> None:
    judge = Judge("http://localhost:8000/v1", "tiny")
    targets = make_targets(SAMPLES, ScoreSettings("ipadic", str(tmp_path), judge))
    assert (targets.clip, targets.judge, targets.contexts) == (str(tmp_path), judge, ("犬の写真", ""))
    assert "|seg:ipadic-" in prepare(["rouge_l"], targets).score(["犬", "赤"])["rouge_l"].signature


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_every_segmenter_scores_captions_of_a_set_whose_table_is_of_another(segmenter: str) -> None:
    """On the bundled sets CIDEr-D refused any segmenter but that of their frozen tables, the default."""
    for package in SEGMENTERS[segmenter][1].split():
        pytest.importorskip(package.replace("-", "_"))
    samples = load("ja-scenes", "search", 8)
    choice = EvalsetChoice(name="ja-scenes", split="search", samples=8)
    scorer = make_scorer(choice, samples, ["cider"], ScoreSettings(segmenter))
    score = scorer.score([sample.references[0] for sample in samples])["cider"]
    assert score.value > 5
    assert f"|seg:{segmenter_name(segmenter)}|" in score.signature


def test_what_needs_settings_is_possible_only_with_them() -> None:
    wanting = {"clipscore", "refclipscore", "judge", "judge_heron"}
    assert not wanting & set(possible(make_targets(SAMPLES)))
    judge = Judge("http://localhost:8000/v1", "tiny")
    assert wanting <= set(possible(make_targets(SAMPLES, ScoreSettings(clip="org/clip", judge=judge))))


def test_a_candidate_is_scored_by_a_clip_and_a_judge(
    parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    clip = write_clip(tmp_path / "clip", seed=3)
    with serving() as server:
        judge = f"{{url: '{server.url}', model: tiny}}"
        score = f"score={{objective: {{judge: 1.0, clipscore: 0.1}}, clip: {clip}, judge: {judge}}}"
        plan = make_plan(load_recipe(parents / "recipe.yaml", [score]))
        evaluator, genome = Evaluator(plan), [0.5] * 16
        result = evaluator.evaluate(genome)
        assert result["status"] == "ok" and result["score"] > 0
        assert list(result["metrics"]) == ["judge", "clipscore"]
        assert 0 < len(server.asked) <= 4, "as many as there are answers"
        server.replies = [Reply(401, "no")] * 9
        with pytest.raises(ScoreError, match="HTTP 401"):  # a candidate would only have failed
            evaluator.evaluate([0.9] * 16)
    assert run_fields(plan)["clip_sha256"] == open_checkpoint(clip).checksum
    assert "clip_sha256" not in run_fields(make_plan(load_recipe(parents / "recipe.yaml")))
