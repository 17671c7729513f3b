"""hub.py and what is opened through it: the real huggingface_hub against a hub on this machine, which counts bytes."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from tests.checkpoint.fakehub import FakeHub, serving
from tests.conftest import ROOT
from vlmmerge.checkpoint import open_checkpoint, open_headers, opening, shards
from vlmmerge.cli import main
from vlmmerge.errors import CheckpointError
from vlmmerge.export.licence import read_licence
from vlmmerge.inspection import describe, inspect
from vlmmerge.plan import make_plan
from vlmmerge.recipe import load_recipe


@pytest.fixture
def hub(tmp_path: Path, parents: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the tiny parents as `org/vlm`, `org/base` and `org/ja-llm`, and an empty cache."""
    with serving(FakeHub()) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("vlm", "base", "ja-llm"):
            hub.add(f"org/{name}", parents / name)
        yield hub


def fault_of(where: str, **settings: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        open_headers(where, **settings)
    assert caught.value.hint, "every message says what to do"
    return caught.value


def write_sharded(folder: Path, source: Path, num_shards: int = 3) -> Path:
    """The same checkpoint in shards."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = load_file(source / "model.safetensors")
    names = {key: f"model-{number % num_shards}.safetensors" for number, key in enumerate(tensors)}
    for name in set(names.values()):
        save_file({key: tensor for key, tensor in tensors.items() if names[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


def test_headers_are_read_and_no_weights(hub: FakeHub, parents: Path) -> None:
    opened, local = open_headers("org/vlm"), open_checkpoint(parents / "vlm")
    assert opened.config == local.config and opened.shapes == local.shapes and opened.num_bytes == local.num_bytes
    assert opened.is_remote and not local.is_remote
    requests = [(method, size) for method, path, size in hub.served if path.endswith(".safetensors")]
    assert requests == [("GET", shards.USUAL_HEADER)], "one request, of a part of the file"
    assert hub.num_bytes(".safetensors") < (parents / "vlm" / "model.safetensors").stat().st_size / 2
    assert not list(opened.folder.glob("*.safetensors"))
    key = next(iter(opened.tensors))
    with pytest.raises(CheckpointError) as caught:
        opened.read(key)
    assert str(caught.value) == (
        f"org/vlm: the weights of `{key}` are still on the hub\nhint: open it whole, which fetches its weights"
    )


def test_to_inspect_fetches_no_weights(hub: FakeHub, parents: Path, tmp_path: Path) -> None:
    names = ("vlm", "ja-llm", "base")
    found = describe(inspect([f"org/{name}" for name in names]))
    local = describe(inspect([str(parents / name) for name in names]))
    sizes = [size for _, path, size in hub.served if path.endswith(".safetensors")]
    assert len(sizes) == 3 and max(sizes) <= shards.USUAL_HEADER, "a request each, of a part of the file"
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    for name, parent in found["parents"].items():
        assert parent.pop("where") == f"org/{name}" and parent.pop("commit") in hub.repos[f"org/{name}"].commits
        assert parent == {key: value for key, value in local["parents"][name].items() if key not in ("where", "commit")}
    assert found["findings"] == local["findings"]
    assert (
        found["next"] == 'a recipe with `parents: {vlm: "org/vlm", base: "org/base", llms: {"ja-llm": "org/ja-llm"}}`'
    )


def test_without_tokenizer_only_the_config_is_fetched(hub: FakeHub) -> None:
    opened = open_headers("org/vlm", has_tokenizer=False)
    assert [path.name for path in opened.folder.iterdir()] == ["config.json"]
    assert hub.num_bytes("tokenizer.json") == 0


def test_a_header_longer_than_the_first_request_is_read_whole(
    hub: FakeHub, parents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "USUAL_HEADER", 100)
    assert open_headers("org/vlm").shapes == open_checkpoint(parents / "vlm").shapes
    length = int.from_bytes((parents / "vlm" / "model.safetensors").read_bytes()[:8], "little")
    assert hub.num_bytes(".safetensors") == 100 + 8 + length


def test_a_server_without_ranges_is_not_listened_to_for_long(hub: FakeHub, tmp_path: Path) -> None:
    """It sends the whole file, which may have gigabytes."""
    (tmp_path / "long").mkdir()
    (tmp_path / "long" / "config.json").write_text("{}")
    save_file({"w": torch.zeros(2**24)}, tmp_path / "long" / "model.safetensors")
    hub.add("org/long", tmp_path / "long")
    hub.knows_ranges = False
    assert open_headers("org/long").shapes == {"w": (2**24,)}
    assert hub.num_bytes(".safetensors") < 2**25, "of 2^26 bytes; the rest is in the system's buffers"


def test_a_sharded_checkpoint_opens_by_its_headers(hub: FakeHub, parents: Path, tmp_path: Path) -> None:
    hub.add("org/sharded", write_sharded(tmp_path / "sharded", parents / "base"))
    opened, local = open_headers("org/sharded"), open_checkpoint(parents / "base")
    assert opened.shapes == local.shapes and len(opened.weight_files) == 3
    assert opened.checksum == open_checkpoint(tmp_path / "sharded").checksum


def test_the_checksum_of_headers_is_that_of_the_fetched_files(hub: FakeHub, parents: Path) -> None:
    checksum = open_headers("org/vlm").checksum
    assert checksum == open_checkpoint("org/vlm").checksum == open_checkpoint(parents / "vlm").checksum


def test_what_the_cache_has_is_not_fetched_again(hub: FakeHub) -> None:
    whole = open_checkpoint("org/vlm")
    assert not whole.is_remote
    num_bytes = hub.num_bytes(".safetensors")
    assert num_bytes == whole.weight_files[0].stat().st_size
    assert not open_headers("org/vlm").is_remote
    assert hub.num_bytes(".safetensors") == num_bytes


def test_only_what_makes_the_checkpoint_is_fetched(hub: FakeHub, parents: Path, tmp_path: Path) -> None:
    """Some repositories hold every weight two or three times."""
    folder = shutil.copytree(parents / "base", tmp_path / "more")
    for extra in ("pytorch_model.bin", "consolidated.safetensors", "modeling_own.py"):
        (folder / extra).write_bytes(b"x" * 1000)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    (folder / "huge.json").write_bytes(b" " * (opening.LARGEST_SIDE_FILE + 1))
    hub.add("org/more", folder)
    names = {
        str(path.relative_to(opened)) for opened in [open_checkpoint("org/more").folder] for path in opened.rglob("*")
    }
    assert names == {path.name for path in (parents / "base").iterdir()} | {"modeling_own.py"}


def test_the_model_card_comes_along_and_is_no_part_of_the_checkpoint(
    hub: FakeHub, parents: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(parents / "base", tmp_path / "licensed")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    hub.add("org/licensed", folder)
    opened = open_checkpoint("org/licensed")
    assert read_licence(opened.folder).name == "mit"
    assert opened.folder / "README.md" not in opened.files()


def test_a_branch_a_tag_and_a_commit_open_what_they_name(hub: FakeHub, parents: Path) -> None:
    first = hub.repos["org/ja-llm"].refs["main"]
    second = hub.add("org/ja-llm", parents / "vlm")
    hub.repos["org/ja-llm"].refs |= {"v1.0": first, "refs/pr/1": first}
    newest = open_headers("org/ja-llm")
    assert (newest.commit, newest.name) == (second, "org/ja-llm")
    assert open_headers("org/ja-llm@main").commit == second
    older = open_checkpoint(parents / "ja-llm").shapes
    for revision in ("v1.0", "refs/pr/1", first):
        opened = open_headers(f"org/ja-llm@{revision}")
        assert (opened.commit, opened.shapes, opened.name) == (first, older, f"org/ja-llm@{revision}")
    assert str(fault_of("org/ja-llm@v9")) == (
        "org/ja-llm@v9: the hub has no such revision of org/ja-llm\n"
        "hint: see the branches, tags and commits of org/ja-llm on its page"
    )


@pytest.mark.parametrize("where", ["org/vlm@../../x", "org/vlm@/x", "../vlm", "org/..", "./vlm@main", "org/vlm@a@b"])
def test_a_name_that_leaves_the_cache_is_none(where: str) -> None:
    assert str(fault_of(where)) == f"no such checkpoint: {where}\nhint: give a folder with a config.json, or a hub id"


@pytest.mark.parametrize("revision", ["", "@v1.0", "@commit"])
def test_a_cached_snapshot_opens_offline(
    hub: FakeHub, parents: Path, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    commit = hub.repos["org/vlm"].refs["main"]
    hub.repos["org/vlm"].refs["v1.0"] = commit
    where = f"org/vlm{revision.replace('commit', commit)}"
    online = open_checkpoint(where)
    num_served = len(hub.served)
    for setting in ({"HF_HUB_OFFLINE": True}, {"ENDPOINT": "http://127.0.0.1:9"}):  # nobody listens there
        with monkeypatch.context() as patch:
            for name, value in setting.items():
                patch.setattr(constants, name, value)
            for open_again in (open_checkpoint, open_headers):
                offline = open_again(where)
                assert (offline.commit, offline.folder) == (commit, online.folder) and not offline.is_remote
                assert offline.checksum == open_checkpoint(parents / "vlm").checksum
    assert len(hub.served) == num_served


def test_what_the_cache_lacks_is_told_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    open_headers("org/vlm")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    head, details, hint = (str(fault_of("org/base")).split("\n")[index] for index in (0, 1, -1))
    assert head == "no such checkpoint: org/base is no folder here, and the hub did not give it"
    assert details == "  HF_HUB_OFFLINE is set, and the cache has it not"
    assert hint == "hint: check the name, or unset HF_HUB_OFFLINE"
    for open_it in (open_headers, open_checkpoint):
        with pytest.raises(CheckpointError) as caught:
            open_it("org/vlm")
        assert str(caught.value) == (
            "org/vlm: the cache has no model.safetensors, and the hub cannot be asked\n"
            "hint: fetch it while the hub can be reached"
        )


def test_a_hub_that_does_not_answer_is_told(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert str(fault_of("org/base")) == (
        "no such checkpoint: org/base is no folder here, and the hub did not give it\n"
        "  [Errno 111] Connection refused\n"
        "hint: check the network, or give a local folder; for a private or gated repository run `hf auth login`"
    )


def test_a_gated_and_a_private_repository_tell_how_to_log_in(hub: FakeHub, parents: Path) -> None:
    hub.add("org/gated", parents / "base", is_gated=True)
    hub.add("org/private", parents / "base", refusal=(401, "RepoNotFound"))
    gated, private, missing = (str(fault_of(f"org/{name}")).split("\n") for name in ("gated", "private", "nothing"))
    assert gated[0] == "no such checkpoint: org/gated is no folder here, and the hub did not give it"
    assert gated[1] == "  it is gated, and your login has no access"
    assert gated[-1] == "hint: ask for access on the page of org/gated, then run `hf auth login`"
    assert private[1] == missing[1] == "  it has no such repository, or a private one"
    assert private[-1] == "hint: check the name; for a private repository run `hf auth login`"


def test_what_cannot_be_blended_is_refused_before_its_weights_are_fetched(
    hub: FakeHub, parents: Path, tmp_path: Path
) -> None:
    for name, config in (("quantized", {"quantization_config": {"quant_method": "awq"}}), ("pickled", {})):
        folder = shutil.copytree(parents / "base", tmp_path / name)
        (folder / "config.json").write_text(json.dumps(config))
        hub.add(f"org/{name}", folder)
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "model.gguf").write_bytes(b"GGUF")
    hub.add("org/gguf", tmp_path / "gguf")
    told = {"quantized": "the weights are quantized", "pickled": "holds pickled weights only", "gguf": "holds GGUF"}
    for name, message in told.items():
        for open_it in (open_checkpoint, functools.partial(open_headers, has_tokenizer=False)):
            with pytest.raises(CheckpointError, match=message):
                open_it(f"org/{name}")
    assert hub.num_bytes(".safetensors") == hub.num_bytes(".bin") == 0


def test_a_plan_remembers_the_commits_and_a_pinned_recipe_names_them(hub: FakeHub, recipe_file: Path) -> None:
    overrides = ["parents.vlm=org/vlm", "parents.llms.ja=org/ja-llm@main"]
    plan = make_plan(load_recipe(recipe_file, overrides), has_weights=False)
    commits = {name: hub.repos[f"org/{repo}"].refs["main"] for name, repo in (("vlm", "vlm"), ("ja", "ja-llm"))}
    assert plan.commits == commits
    pinned = plan.pinned_recipe.parents
    assert (pinned.vlm, pinned.llms["ja"]) == (f"org/vlm@{commits['vlm']}", f"org/ja-llm@{commits['ja']}")
    assert pinned.base == plan.recipe.parents.base == str(recipe_file.parent / "base")
    assert hub.num_bytes(".safetensors") <= 2 * shards.USUAL_HEADER


def commits_of(hub: FakeHub) -> dict[str, str]:
    """The newest commit of each parent."""
    repos = {"vlm": "org/vlm", "base": "org/base", "ja": "org/ja-llm"}
    return {name: hub.repos[repo].refs["main"] for name, repo in repos.items()}


OVERRIDES = [
    "--set",
    "parents.vlm=org/vlm",
    "--set",
    "parents.base=org/base",
    "--set",
    "parents.llms.ja=org/ja-llm@main",
]


def test_inspect_and_a_dry_run_fetch_no_weights(hub: FakeHub, recipe_file: Path, tmp_path: Path) -> None:
    """`--dry-run` fetched every weight."""
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT),
    }
    parents = ["org/vlm", "org/ja-llm@main", "--base", "org/base"]
    for arguments in (["inspect", *parents, "--json"], ["evolve", str(recipe_file), *OVERRIDES, "--dry-run"]):
        command = [sys.executable, "-m", "vlmmerge.cli", *arguments]
        done = subprocess.run(command, env={**os.environ, **settings}, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "org/ja-llm@main" in done.stdout
        assert 0 < hub.num_bytes(".safetensors") <= 3 * shards.USUAL_HEADER
        hub.served.clear()
    assert not list((tmp_path / "home").rglob("*.safetensors"))


def test_a_blend_of_hub_parents_says_by_which_commits_and_needs_no_hub_again(
    hub: FakeHub, recipe_file: Path, parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = "blend.ratios={vlm: {weight: 0.5, density: 1}, ja: {weight: 0.5, density: 1}}"
    blend, commits = ["blend", str(recipe_file), *OVERRIDES, "--set", ratios, "--out"], commits_of(hub)
    assert main([*blend, str(tmp_path / "online")]) == 0
    assert json.loads((tmp_path / "online" / "vlmmerge.json").read_text())["parents_commit"] == commits
    hub.add("org/ja-llm", parents / "base")  # the branch moves on, which the cache does not know
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main([*blend, str(tmp_path / "offline")]) == 0
    blended = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("online", "offline")]
    assert blended[0] == blended[1]


def test_a_run_of_hub_parents_goes_on_with_its_commits_when_the_branches_move(
    hub: FakeHub, recipe_file: Path, parents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commits, run = commits_of(hub), tmp_path / "run"
    brief = ["search.evaluations=4", "search.grid=0", "evalset.finals=null"]
    words = [*OVERRIDES, *(word for override in brief for word in ("--set", override))]
    assert main(["evolve", str(recipe_file), *words, "--run", str(run)]) == 0
    assert json.loads((run / "journal.jsonl").read_text().splitlines()[0])["parents_commit"] == commits
    assert json.loads((run / "best" / "vlmmerge.json").read_text())["parents_commit"] == commits
    assert json.loads((run / "recipe.json").read_text())["parents"]["vlm"] == f"org/vlm@{commits['vlm']}"
    moved = hub.add("org/ja-llm", parents / "base")
    assert main(["export", str(run), "--mergekit", str(tmp_path / "file.yaml")]) == 0
    assert commits["ja"] in (tmp_path / "file.yaml").read_text()
    capsys.readouterr()
    assert main(["evolve", str(recipe_file), *words, "--run", str(run), "--resume"]) == 1
    assert f'parents_commit.ja: "{commits["ja"]}" in the journal, "{moved}" now' in capsys.readouterr().err
