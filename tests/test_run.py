"""run.py, end to end through the command line: interrupted, killed, resumed, prolonged, with actors, loaded elsewhere.

`VLMMERGE_KILLS=200 pytest tests/test_run.py -k killed` kills more often than the suite does.
"""

import contextlib
import json
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file, save_file

from vlmmerge.errors import RunError
from vlmmerge.evalsets import load
from vlmmerge.journal import Journal, read_journal
from vlmmerge.run import open_run, winner_of

if TYPE_CHECKING:
    from conftest import Cli, WholeRun

LARGEST = 3.4e38  # nearly, of float32
NUM_EVALUATIONS, NUM_GRID, NUM_FINALISTS = 14, 4, 2  # as the recipe of conftest.py says
BLENDS = ["vlm", "ja with the eyes of vlm", "average", "best of the grid", "centre", "best"]
# Plain transformers: nothing of vlmmerge may be imported in this process.
PLAIN_ANSWERS = """
import json, sys
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, max_new_tokens, question, *pictures = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder)
answers = []
for picture in pictures:
    content = [{"type": "image", "image": Image.open(picture).convert("RGB")}, {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )
    said = model.generate(**inputs, max_new_tokens=int(max_new_tokens), do_sample=False)
    said = said[0, inputs["input_ids"].shape[1]:]
    answers.append(processor.tokenizer.decode(said, skip_special_tokens=True).strip())
assert "vlmmerge" not in sys.modules
print(json.dumps(answers))
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def kinds(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record for record in records if record["kind"] == kind]


def drawn(records: list[dict[str, Any]]) -> list[tuple[list[float], float]]:
    """Genome and score of each candidate that the search drew: all but the centres."""
    return [(r["genome"], r["score"]) for r in kinds(records, "candidate") if not r.get("centre")]


def test_the_journal_holds_grid_candidates_centre_and_held_out_scores_in_order(whole_run: "WholeRun") -> None:
    header, records = read_journal(whole_run.folder / "journal.jsonl")
    finals = kinds(records, "final")
    assert header["kind"] == "run" and set(header["fields"]) == {"recipe", "parents_sha256", "evalset_sha256"}
    assert [r["kind"] for r in records] == (
        ["grid"] * NUM_GRID
        + ["candidate"] * (NUM_EVALUATIONS + 1)
        + ["final"] * len(finals)
        + ["held_out"] * len(BLENDS)
    )
    assert [r["index"] for r in kinds(records, "candidate")] == list(range(NUM_EVALUATIONS + 1))
    assert [r["index"] for r in kinds(records, "candidate") if r.get("centre")] == [NUM_EVALUATIONS]
    assert [r["name"] for r in kinds(records, "held_out")] == BLENDS
    assert all(r["status"] == "ok" for r in records if r["kind"] != "held_out")
    assert len({score for _, score in drawn(records)}) > NUM_EVALUATIONS // 2, "candidates should differ"


def test_the_best_few_meet_again_on_the_finals_samples_and_the_winner_there_ships(whole_run: "WholeRun") -> None:
    _, records = read_journal(whole_run.folder / "journal.jsonl")
    finals = kinds(records, "final")
    for kind in ("grid", "candidate"):
        ranked = sorted(kinds(records, kind), key=lambda record: -record["score"])
        met = [record["index"] for record in finals if record["of"] == kind]
        centre = [NUM_EVALUATIONS] if kind == "candidate" and NUM_EVALUATIONS not in met[:NUM_FINALISTS] else []
        assert met == [record["index"] for record in ranked[:NUM_FINALISTS]] + centre
    winner = max((r for r in finals if r["of"] == "candidate"), key=lambda record: record["score"])
    assert kinds(records, "held_out")[-1]["of"] == winner["index"]
    first_scores = {record["index"]: record["score"] for record in kinds(records, "candidate")}
    assert any(record["score"] != first_scores[record["index"]] for record in finals if record["of"] == "candidate")


def test_a_final_decides_over_the_score_of_the_search() -> None:
    records = [
        {"kind": "candidate", "index": 0, "score": 2.0},
        {"kind": "candidate", "index": 1, "score": 3.0},
        {"kind": "grid", "index": 1, "score": 9.0},
    ]
    assert winner_of("candidate", records) == records[1]
    finals = [
        {"kind": "final", "of": "candidate", "index": 1, "score": None},
        {"kind": "final", "of": "candidate", "index": 0, "score": 1.0},
        {"kind": "final", "of": "grid", "index": 1, "score": 5.0},
    ]
    assert winner_of("candidate", records + finals) == records[0]
    assert winner_of("candidate", records + finals[:1]) == records[1], "a failed final decides nothing"


def test_the_grid_covers_the_weights_range_for_each_parent(whole_run: "WholeRun") -> None:
    _, records = read_journal(whole_run.folder / "journal.jsonl")
    weights = [record["weights"] for record in kinds(records, "grid")]
    assert weights == [{"vlm": vlm, "ja": ja} for vlm in (0.0, 1.5) for ja in (0.0, 1.5)]


def test_evolve_with_json_prints_one_object_with_the_table_and_nothing_else_on_stdout(whole_run: "WholeRun") -> None:
    printed = json.loads(whole_run.done.out)
    assert whole_run.done.out.count("\n") == 1
    assert printed["run"] == str(whole_run.folder) and printed["best"] == str(whole_run.folder / "best")
    assert [row["name"] for row in printed["held_out"]] == BLENDS
    assert [row["difference"] is None for row in printed["held_out"]] == [False] * (len(BLENDS) - 1) + [True]
    for row in printed["held_out"]:
        for metric in ("cider", "chrf", "exact", "japanese"):
            score = row["scores"][metric]
            assert score["low"] <= score["value"] <= score["high"] and score["num_samples"] == 6
            assert score["signature"].startswith(metric)
        assert row["asked"].startswith("ja-scenes:held_out@") and "|attention:sdpa|" in row["asked"]
    assert [set(sample) for sample in printed["samples"]] == [{"id", "reference", "vlm", "best"}] * 4


def test_the_run_folder_holds_the_journal_the_recipe_and_the_best(whole_run: "WholeRun") -> None:
    assert sorted(path.name for path in whole_run.folder.iterdir()) == ["best", "journal.jsonl", "recipe.json"]
    provenance = json.loads((whole_run.folder / "best" / "vlmmerge.json").read_text())
    _, records = read_journal(whole_run.folder / "journal.jsonl")
    winner = winner_of("candidate", records)
    assert provenance["candidate"] == winner
    of_best = kinds(records, "held_out")[-1]
    assert all(provenance["held_out"][key] == of_best[key] for key in ("scores", "asked"))
    assert f"- `{of_best['asked']}`" in (whole_run.folder / "best" / "README.md").read_text()
    assert winner is not None and len(provenance["genes"]) == len(winner["genome"]) == 16


def test_the_export_in_plain_transformers_gives_the_very_answers_of_the_journal(
    whole_run: "WholeRun", tmp_path: Path
) -> None:
    pictures = [tmp_path / f"{number}.jpg" for number in range(6)]
    for picture, sample in zip(pictures, load("ja-scenes", "held_out", 6), strict=True):
        picture.write_bytes(sample.images[0])
    arguments = [whole_run.folder / "best", "8", "画像を説明してください。", *pictures]
    command = [sys.executable, "-c", PLAIN_ANSWERS, *map(str, arguments)]
    ended = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    _, records = read_journal(whole_run.folder / "journal.jsonl")
    answers = kinds(records, "held_out")[-1]["answers"]
    assert json.loads(ended.stdout) == answers
    assert len(set(answers)) > 1, "different pictures should get different answers"


def test_a_run_killed_at_random_moments_and_resumed_is_as_if_never_killed(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    rng = random.Random(0)
    wanted_kills, kills, number = int(os.environ.get("VLMMERGE_KILLS", "5")), 0, 0
    begin = time.monotonic()
    assert cli.run("evolve", recipe_file, "--run", tmp_path / "measured").status == 0
    seconds = time.monotonic() - begin
    while True:
        run = tmp_path / str(number)
        resume = ["--resume"] if (run / "journal.jsonl").exists() else []
        process = cli.start("evolve", recipe_file, "--run", run, *resume)
        if kills < wanted_kills:
            time.sleep(rng.uniform(0, seconds))
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(process, signal.SIGKILL)
        done = cli.wait()
        kills += done.status == -signal.SIGKILL
        if done.status == 0:
            assert files_of(run / "best") == files_of(whole_run.folder / "best")
            assert (run / "journal.jsonl").read_bytes() == whole_run.journal
            assert sorted(path.name for path in run.iterdir()) == ["best", "journal.jsonl", "recipe.json"]
            number += 1
            if kills >= wanted_kills:
                break
        else:
            assert done.status == -signal.SIGKILL, done.err


def test_ctrl_c_exports_the_best_so_far_and_says_how_to_resume(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "a run"
    process = cli.start("evolve", recipe_file, "--run", run, "--set", "generate.batch_tokens=2")
    while not (run / "journal.jsonl").exists() or b'"candidate"' not in (run / "journal.jsonl").read_bytes():
        time.sleep(0.01)
    os.kill(process, signal.SIGINT)
    done = cli.wait()
    assert done.status == 130 and done.out == ""
    assert "Traceback" not in done.err
    resume = f"vlmmerge evolve {recipe_file} --run '{run}' --set generate.batch_tokens=2 --resume"
    assert done.err.splitlines()[-1] == f"interrupted; go on with: {resume}"
    _, records = read_journal(run / "journal.jsonl")
    provenance = json.loads((run / "best" / "vlmmerge.json").read_text())
    assert provenance["candidate"] == winner_of("candidate", records) and provenance["held_out"] == {}
    assert not kinds(records, "held_out")

    assert cli.run("evolve", recipe_file, "--run", run, "--resume").status == 0
    assert (run / "journal.jsonl").read_bytes() == whole_run.journal
    assert files_of(run / "best") == files_of(whole_run.folder / "best")


def test_ctrl_c_before_anything_has_a_score_ends_as_cleanly(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = cli.start("evolve", recipe_file, "--run", run)
    while not (run / "journal.jsonl").exists():
        time.sleep(0.001)
    os.kill(process, signal.SIGINT)
    done = cli.wait()
    assert done.status == 130 and "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("interrupted; go on with: vlmmerge evolve ")


def test_a_run_by_default_is_guarded_and_tells_what_each_blend_has_kept_of_the_vlms_own_language(
    cli: "Cli", recipe_file: Path, tmp_path: Path
) -> None:
    overrides = ["score=", "evalset.finals=", "search.evaluations=2", "search.grid=0"]
    overrides.append("evalset.retention={name: ja-scenes, split: held_out_english, samples: 5}")
    run = tmp_path / "run"
    done = cli.run("evolve", recipe_file, "--run", run, "--json", *(w for o in overrides for w in ("--set", o)))
    assert done.status == 0, done.err
    header, records = read_journal(run / "journal.jsonl")
    assert header["fields"]["recipe"]["score"]["objective"] == {"cider": 1.0}
    assert set(header["fields"]["evalset_sha256"]) == {"search", "held_out", "retention"}
    for candidate in kinds(records, "candidate"):
        kept = [guard["kept"] for guard in candidate["guards"].values()]
        assert len(kept) == 4 and candidate["score"] == pytest.approx(candidate["objective"] * math.prod(kept))
    held_out = {record["name"]: record for record in kinds(records, "held_out")}
    rows = {row["name"]: row for row in json.loads(done.out)["held_out"]}
    assert rows.keys() == held_out.keys()
    for name, row in rows.items():
        assert row["guarded"] == held_out[name]["guarded"]
        retention = row["retention"]
        assert retention["name"] == "ja-scenes:held_out_english"
        assert retention["scores"] == held_out[name]["retention"]["scores"]
        assert retention["scores"]["cider"]["num_samples"] == 5 == len(held_out[name]["retention"]["answers"])
        if name == "vlm":
            assert retention["change"] is None
        else:
            change, low, high = retention["change"]["cider"]
            assert low <= change <= high
            of_vlm = rows["vlm"]["retention"]["scores"]["cider"]["value"]
            assert change == pytest.approx(retention["scores"]["cider"]["value"] - of_vlm)
    provenance = json.loads((run / "best" / "vlmmerge.json").read_text())
    assert provenance["retention"]["scores"] == held_out["best"]["retention"]["scores"]
    assert provenance["held_out"]["guarded"] == held_out["best"]["guarded"]
    card = (run / "best" / "README.md").read_text()
    assert "## Retention" in card and "The guards found: " in card


def test_resuming_a_finished_run_changes_nothing_and_shows_the_table_again(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    run = copy_of(whole_run.folder, tmp_path / "run")
    done = cli.run("evolve", recipe_file, "--run", run, "--resume", "--json")
    assert done.status == 0, done.err
    assert files_of(run) == files_of(whole_run.folder)
    assert json.loads(done.out)["held_out"] == json.loads(whole_run.done.out)["held_out"]
    assert "loading" not in done.err, "the journal has everything: no model is needed"


def test_a_prolonged_run_draws_what_a_longer_run_would_have_drawn(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert cli.run("evolve", recipe_file, "--run", run, "--set", "search.evaluations=3").status == 0
    done = cli.run("evolve", recipe_file, "--run", run, "--resume", "--json")
    assert done.status == 0, done.err
    _, records = read_journal(run / "journal.jsonl")
    _, whole_records = read_journal(whole_run.folder / "journal.jsonl")
    assert drawn(records) == drawn(whole_records)
    assert len([record for record in kinds(records, "candidate") if record.get("centre")]) == 2
    printed = json.loads(done.out)["held_out"]
    assert [row["name"] for row in printed] == BLENDS
    winner = winner_of("candidate", records)
    assert winner is not None and printed[-1]["of"] == winner["index"]
    exported = json.loads((run / "best" / "vlmmerge.json").read_text())
    assert exported["candidate"]["index"] == printed[-1]["of"]


@pytest.mark.parametrize("override", ["search.actors=2", "generate.batch_tokens=1"])
def test_neither_actors_nor_the_batch_tokens_move_a_byte_of_the_journal(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path, override: str
) -> None:
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--set", override)
    assert done.status == 0, done.err
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == whole_run.journal


def test_a_base_that_is_no_ancestor_of_the_parents_is_warned_of_with_the_measured_distances(
    cli: "Cli", whole_run: "WholeRun", parents: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(parents, tmp_path / "parents")
    tensors = load_file(folder / "base" / "model.safetensors")
    unrelated = {key: tensor.roll(7, -1) if tensor.ndim > 1 else tensor for key, tensor in tensors.items()}
    save_file(unrelated, folder / "base" / "model.safetensors", metadata={"format": "pt"})
    overrides = ["--set", "search.evaluations=1", "--set", "search.grid=0"]
    done = cli.run("evolve", folder / "recipe.yaml", "--run", tmp_path / "run", *overrides)
    assert done.status == 0, done.err
    distances = json.loads((tmp_path / "run" / "best" / "vlmmerge.json").read_text())["distance_to_base"]
    assert list(distances) == ["vlm", "ja"] and all(1.3 < distance < 1.6 for distance in distances.values())
    for name, distance in distances.items():
        warning = f"warning: `base` seems no ancestor of `{name}`: they are {distance:.2f} lengths of `base` apart, "
        assert sum(line.startswith(warning) for line in done.err.splitlines()) == 1, done.err
    assert "warning" not in whole_run.done.err


FINER = ("--set", "blend.depth=per_layer", "--set", "blend.split=roles", "--set", "search.grid=0")


def test_a_run_starts_at_the_best_of_a_coarser_one_and_says_so_in_its_journal(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    narrow = ("--set", "search.evaluations=2", "--set", "search.sigma=1e-9")
    done = cli.run("evolve", recipe_file, "--run", run, "--start-from", whole_run.folder, *FINER, *narrow)
    assert done.status == 0, done.err
    coarse, header, coarse_records = open_run(whole_run.folder)
    winner = winner_of("candidate", coarse_records)
    assert winner is not None
    assert f"starting at candidate {winner['index']} of {whole_run.folder}" in done.err.replace("\n", "")
    plan, finer_header, records = open_run(run)
    start = finer_header["fields"]["start"]
    assert (start["run"], start["candidate"]) == (header["fingerprint"], winner["index"])
    wanted = coarse.space.decode(winner["genome"])
    for genome in [start["genome"], *(record["genome"] for record in kinds(records, "candidate"))]:
        found = plan.space.decode(genome)
        for slot in wanted:
            for parent in ("vlm", "ja"):
                assert found[slot][parent].weight == pytest.approx(wanted[slot][parent].weight, abs=1e-7)
                assert found[slot][parent].density == pytest.approx(wanted[slot][parent].density, abs=1e-7)


def test_a_run_with_a_start_is_resumed_from_its_journal_alone_as_if_never_interrupted(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    """The other run is gone when this one is resumed."""
    other, whole, halved = copy_of(whole_run.folder, tmp_path / "other"), tmp_path / "whole", tmp_path / "halved"
    six = ("--set", "search.evaluations=6")
    assert cli.run("evolve", recipe_file, "--run", whole, "--start-from", other, *FINER, *six).status == 0
    content = (whole / "journal.jsonl").read_bytes()
    halved.mkdir()
    (halved / "journal.jsonl").write_bytes(b"".join(content.splitlines(keepends=True)[:4]))
    shutil.rmtree(other)
    done = cli.run("evolve", recipe_file, "--run", halved, "--resume", *FINER, *six)
    assert done.status == 0, done.err
    assert (halved / "journal.jsonl").read_bytes() == content


def test_a_run_that_is_resumed_with_another_start_is_refused(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    run = copy_of(whole_run.folder, tmp_path / "run")
    done = cli.run("evolve", recipe_file, "--run", run, "--resume", "--start-from", whole_run.folder)
    assert done.status == 1
    assert f"error: {run}/journal.jsonl belongs to another run\n  start.candidate: null in the journal, " in done.err
    assert files_of(run) == files_of(whole_run.folder)


def test_a_run_starts_at_the_recipes_ratios_if_it_has_some(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    ratios = "{vlm: {weight: {mlp: 0.5, default: 1.0}}, ja: {weight: [0.3, 0.9], density: 0.7}}"
    words = [f"blend.ratios={ratios}", "search.sigma=1e-9", "search.evaluations=1", "search.grid=0"]
    fine = ["blend.depth=per_layer", "blend.split=[attention, mlp]"]
    overrides = [word for override in words + fine for word in ("--set", override)]
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", *overrides)
    assert done.status == 0, done.err
    plan, _, records = open_run(tmp_path / "run")
    assert plan.fixed is not None
    for slot, of_parents in plan.space.decode(kinds(records, "candidate")[0]["genome"]).items():
        for parent, ratio in of_parents.items():
            assert ratio.weight == pytest.approx(plan.fixed[slot][parent].weight, abs=1e-7), (slot, parent)
            assert ratio.density == pytest.approx(plan.fixed[slot][parent].density, abs=1e-7), (slot, parent)


def test_what_cannot_be_started_from_is_told_before_anything_is_written(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    run, other = tmp_path / "run", "parents.llms={other: ja-llm}"
    done = cli.run("evolve", recipe_file, "--run", run, "--start-from", whole_run.folder, "--set", other)
    assert (done.status, done.message) == (
        1,
        f"error: {whole_run.folder} cannot be started from: it blends vlm with ja, the recipe vlm with other\n"
        "hint: start from a run of the same parents, by the same names",
    )
    done = cli.run("evolve", recipe_file, "--run", run, "--start-from", tmp_path, "--dry-run")
    assert (done.status, done.message) == (
        1,
        f"error: there is no run in {tmp_path}\nhint: start one without --resume, or check --run",
    )
    assert not run.exists()


def test_a_run_of_another_tower_cannot_be_started_from(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    other = copy_of(whole_run.folder, tmp_path / "other")
    recipe = json.loads((other / "recipe.json").read_text())
    recipe["blend"]["depth"] = "per_layer"
    recipe["blend"]["split"] = "roles"
    (other / "recipe.json").write_text(json.dumps(recipe))
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--start-from", other)
    assert (done.status, done.message) == (
        1,
        f"error: {other} cannot be started from: its genomes have 16 genes, 80 in this language tower\n"
        "hint: start from a run of the same parents",
    )


def test_a_run_folder_is_never_begun_twice(cli: "Cli", whole_run: "WholeRun", recipe_file: Path) -> None:
    before = files_of(whole_run.folder)
    done = cli.run("evolve", recipe_file, "--run", whole_run.folder)
    assert done.status == 1
    assert done.message == (
        f"error: there is a run already in {whole_run.folder}\nhint: go on with --resume, or choose another --run"
    )
    assert files_of(whole_run.folder) == before


def test_a_run_of_another_recipe_is_refused_and_says_what_differs(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path
) -> None:
    before = files_of(whole_run.folder)
    done = cli.run("evolve", recipe_file, "--run", whole_run.folder, "--resume", "--set", "search.seed=6")
    assert done.status == 1
    assert done.message == (
        f"error: {whole_run.folder}/journal.jsonl belongs to another run\n"
        "  recipe.search.seed: 5 in the journal, 6 now\n"
        "hint: resume with what the run began with, or start a new run with another --run"
    )
    assert files_of(whole_run.folder) == before


def test_resuming_where_no_run_is_says_so(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "run", "--resume")
    assert done.status == 1
    assert done.message == (
        f"error: there is no run in {tmp_path / 'run'}\nhint: start one without --resume, or check --run"
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_things_is_no_place_for_a_run(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    """A folder without a journal was taken, and a recipe.json in it was written over."""
    (tmp_path / "recipe.json").write_text("mine")
    done = cli.run("evolve", recipe_file, "--run", tmp_path)
    assert done.status == 1
    assert done.message == f"error: {tmp_path} is not empty and no run of vlmmerge\nhint: choose another --run"
    assert files_of(tmp_path) == {"recipe.json": b"mine"}


def test_a_run_folder_that_cannot_be_made_is_a_users_error(cli: "Cli", recipe_file: Path, tmp_path: Path) -> None:
    """A file in the way ended in a traceback."""
    (tmp_path / "file").touch()
    done = cli.run("evolve", recipe_file, "--run", tmp_path / "file" / "run")
    assert done.status == 1
    assert done.message.startswith(f"error: cannot make {tmp_path / 'file' / 'run'}: ")
    assert done.message.endswith("hint: choose another --run")


def test_a_run_that_another_process_holds_is_left_alone(
    cli: "Cli", whole_run: "WholeRun", recipe_file: Path, tmp_path: Path
) -> None:
    run = copy_of(whole_run.folder, tmp_path / "run")
    header, _ = read_journal(run / "journal.jsonl")
    with Journal(run / "journal.jsonl").open_resume(header):
        done = cli.run("evolve", recipe_file, "--run", run, "--resume")
    assert done.status == 1
    assert done.message == (
        f"error: another process is running in {run}\nhint: wait until it ends, or choose another --run"
    )


def test_a_run_in_which_every_candidate_fails_ends_with_the_reasons(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    broken = copy_of(parents, tmp_path / "parents")
    fill_end(broken / "base" / "model.safetensors", -LARGEST)
    fill_end(broken / "ja-llm" / "model.safetensors", LARGEST)  # further apart than any number
    few = ["search.evaluations=3", "search.grid=0"]
    arguments = [argument for override in few for argument in ("--set", override)]
    done = cli.run("evolve", broken / "recipe.yaml", "--run", tmp_path / "run", *arguments)
    assert done.status == 1
    message, reason, hint = done.err.splitlines()[-3:]
    assert message == "error: no candidate could be scored"
    assert reason.startswith("  VlmMergeError: ") and "not finite" in reason
    assert hint == "hint: the journal holds every reason"
    _, records = read_journal(tmp_path / "run" / "journal.jsonl")
    assert [(record["status"], record["score"]) for record in records] == [("failed", None)] * 4
    assert all("not finite" in record["reason"] for record in records)
    assert not (tmp_path / "run" / "best").exists()


def test_a_parent_with_nan_ends_a_run_before_the_first_candidate(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    """Every candidate failed with a reason that named no parent."""
    file = copy_of(parents, tmp_path / "parents") / "ja-llm" / "model.safetensors"
    fill_end(file, float("nan"))
    done = cli.run("evolve", tmp_path / "parents" / "recipe.yaml", "--run", tmp_path / "run")
    assert done.status == 1
    message, detail, hint = done.err.splitlines()[-3:]
    assert message.startswith(f"error: {file} is damaged: 16 of ") and message.endswith(" weights are not finite")
    assert detail.endswith("`: 16 NaN, 0 infinite")
    assert hint == "hint: fetch the checkpoint again; a parent of weight 0 is left out of a blend"
    assert read_journal(tmp_path / "run" / "journal.jsonl")[1] == []


def test_a_run_whose_parents_have_changed_since_is_not_opened(
    whole_run: "WholeRun", parents: Path, tmp_path: Path
) -> None:
    """Exporting would have shipped a blend of the new files under the scores of the old ones."""
    run, changed = copy_of(whole_run.folder, tmp_path / "run"), copy_of(parents, tmp_path / "parents")
    text = (run / "recipe.json").read_text().replace(str(parents), str(changed))
    (run / "recipe.json").write_text(text)
    open_run(run)
    fill_end(changed / "ja-llm" / "model.safetensors", 0.5)
    with pytest.raises(RunError) as caught:
        open_run(run)
    assert str(caught.value) == (
        f"the parents of {run} have changed since it began\n"
        f"  ja: {changed / 'ja-llm'}\n"
        "hint: restore them, or start a new run"
    )


def copy_of(folder: Path, to: Path) -> Path:
    for name, content in files_of(folder).items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(content)
    return to


def fill_end(file: Path, value: float) -> None:
    """Overwrite the last 16 numbers of a float32 weight file."""
    content = file.read_bytes()
    file.write_bytes(content[:-64] + struct.pack("<16f", *[value] * 16))
