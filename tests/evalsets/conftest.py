"""The bundled sets in a copy that a test may damage, and a hub on this machine with every hub set in miniature."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import constants
from PIL import Image

from tests.checkpoint.fakehub import FakeHub, serving
from tests.evalsets.miniatures import MINIATURES, Table
from vlmmerge.evalsets import BUNDLED, find_evalsets, manifest


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled sets that a test may damage."""
    folder = shutil.copytree(BUNDLED, tmp_path / "evalsets")
    monkeypatch.setattr(manifest.find_evalsets, "__defaults__", (folder,))
    return folder


@contextmanager
def local_hub(folder: Path) -> Iterator[FakeHub]:
    """A hub with nothing on it, and empty caches in the folder."""
    with serving(FakeHub()) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub-cache"))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets-cache")
        yield hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    """A hub with nothing on it, and empty caches."""
    with local_hub(tmp_path) as hub:
        yield hub


@pytest.fixture(scope="module")
def hub_sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """A hub with every hub set in miniature, at the revisions that the manifests name."""
    folder = tmp_path_factory.mktemp("hub-sets")
    with local_hub(folder) as hub:
        for name, tables in MINIATURES.items():
            publish(hub, name, folder / "published" / name, tables)
        yield hub


def publish(hub: FakeHub, name: str, folder: Path, tables: list[Table]) -> None:
    """Put a set's tables on the hub as the newest commit and as the revision that its manifest names."""
    for table in tables:
        (folder / table.file).parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(table.rows, features=datasets.Features(table.features)).to_parquet(
            folder / table.file
        )
    if configs := {table.config for table in tables if table.config}:
        lines = [
            line
            for config in sorted(configs)
            for line in (f"- config_name: {config}", "  data_files:", *_splits(config, tables))
        ]
        (folder / "README.md").write_text("\n".join(["---", "configs:", *lines, "---", ""]), encoding="utf-8")
    evalset = find_evalsets()[name]
    commit = hub.add(f"datasets/{evalset.hub}", folder)
    if evalset.revision:
        repo = hub.repos[f"datasets/{evalset.hub}"]
        repo.commits[evalset.revision] = repo.commits.pop(commit)
        repo.refs["main"] = evalset.revision


def _splits(config: str, tables: list[Table]) -> list[str]:
    return [
        line
        for table in tables
        if table.config == config
        for line in (f"  - split: {table.split}", f"    path: {table.file}")
    ]


def picture(colour: str) -> dict[str, Any]:
    """A picture as a table holds it."""
    encoded = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(encoded, "jpeg")
    return {"bytes": encoded.getvalue(), "path": None}
