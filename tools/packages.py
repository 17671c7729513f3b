"""Fetch a package's archive at a pinned version from its registry, and read files inside it.

Knows pip's and npm's ordinary clients (their own settings hold) and archives. Does not know what the files are.
"""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class PackageError(Exception):
    """A package that cannot be fetched or is not the one that was pinned."""


@dataclass(frozen=True)
class Package:
    """One archive of one version.

    Args:
        name: As the registry names it.
        registry: `pypi` or `npm`.
        version: Pinned.
        archive: The file's name; a wheel's tags say which wheel.
        sha256: Of the archive.
    """

    name: str
    registry: str
    version: str
    archive: str
    sha256: str


def fetch(package: Package, folder: Path) -> Path:
    """The package's archive in `folder`, downloaded unless it is there.

    Raises:
        PackageError: The registry does not serve it, or its checksum differs.
    """
    path = folder / package.archive
    if not path.exists():
        command = _npm_command(package, folder) if package.registry == "npm" else _pip_command(package, folder)
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise PackageError(f"{package.name} {package.version}: {error.filename} is not installed") from None
        if done.returncode != 0 or not path.exists():
            reason = (done.stderr.strip().splitlines() or ["no such archive"])[-1]
            raise PackageError(f"{package.name} {package.version}: cannot be fetched from {package.registry}: {reason}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise PackageError(f"{path}: its sha256 is {found}, {package.sha256} was wanted; delete it and try again")
    return path


def read(archive: Path, name: str) -> bytes:
    """One file of a zip (wheel) or tar archive.

    Raises:
        KeyError: The archive has no such file.
    """
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(name)
        assert stream is not None, f"{name} is no file"
        return stream.read()


def _pip_command(package: Package, folder: Path) -> list[str]:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    which = _wheel_options(package.archive) if package.archive.endswith(".whl") else ["--no-binary", ":all:"]
    return [*pip, *which, "--dest", str(folder), f"{package.name}=={package.version}"]


def _wheel_options(archive: str) -> list[str]:
    """What makes pip choose this wheel on any machine.

    >>> _wheel_options("scipy-1.9.3-cp39-cp39-manylinux_2_17_x86_64.whl")[2:]
    ['--python-version', '39', '--abi', 'cp39', '--platform', 'manylinux_2_17_x86_64']
    """
    python, abi, platforms = archive.removesuffix(".whl").rsplit("-", 3)[1:]
    only_binary = ["--only-binary", ":all:"]
    if platforms == "any":
        return only_binary
    tags = [option for platform in platforms.split(".") for option in ("--platform", platform)]
    return [*only_binary, "--python-version", python.removeprefix("cp"), "--abi", abi, *tags]


def _npm_command(package: Package, folder: Path) -> list[str]:
    return ["npm", "pack", "--silent", "--pack-destination", str(folder), f"{package.name}@{package.version}"]
