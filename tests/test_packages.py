"""tools/packages.py: a package that cannot be had, or is not the pinned one, is told by name."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def packages():
    """The module tools/packages.py, which is no part of the package."""
    sys.path.insert(0, str(ROOT / "tools"))
    import packages

    yield packages
    sys.path.remove(str(ROOT / "tools"))


def test_an_archive_with_another_checksum_is_told(packages, tmp_path: Path) -> None:
    (tmp_path / "thing-1.0.tar.gz").write_bytes(b"something else")
    thing = packages.Package("thing", "pypi", "1.0", "thing-1.0.tar.gz", "0" * 64)
    with pytest.raises(packages.PackageError, match=r"thing-1\.0\.tar\.gz: its sha256 is .*, 0+ was wanted; delete it"):
        packages.fetch(thing, tmp_path)


def test_a_package_that_its_registry_does_not_serve_is_told(
    packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    thing = packages.Package("no-such-thing", "pypi", "1.0", "no_such_thing-1.0-py3-none-any.whl", "0" * 64)
    with pytest.raises(packages.PackageError, match=r"no-such-thing 1\.0: cannot be fetched from pypi: .+"):
        packages.fetch(thing, tmp_path)


def test_a_file_is_read_from_a_wheel_and_from_a_tar_archive(packages, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("a/b.txt", b"hello")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("a/b.txt")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"hello"))
    assert packages.read(tmp_path / "a.whl", "a/b.txt") == b"hello"
    assert packages.read(tmp_path / "a.tgz", "a/b.txt") == b"hello"
