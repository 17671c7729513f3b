"""The Hugging Face hub: the commit that a name stands for, its small files in the cache, a piece of its large ones.

Knows hub ids, the hub's own cache and login, and ranges of bytes. Does not know what a file is for.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

from vlmmerge.errors import CheckpointError

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^\s@]+))?")

PATIENCE = 30  # seconds without a word from the hub, before the cache is looked at

Result = TypeVar("Result")


@dataclass(frozen=True)
class HubId:
    """A name on the hub.

    Args:
        repo: `org/name`.
        revision: A branch, tag or commit; None for the default branch.
    """

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


@dataclass(frozen=True)
class HubFile:
    """What the hub tells of a file without sending it.

    Args:
        num_bytes: Its size.
        sha256: Of its content, where the hub knows it: of every file kept as a large one.
    """

    num_bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository.

    Args:
        id: As it was asked for.
        commit: The commit that it stands for.
        folder: The commit's folder in the hub's cache; it holds the files that were fetched.
        listing: All files that the hub has of it, by name; empty where the hub was not reached.
    """

    id: HubId
    commit: str
    folder: Path
    listing: Mapping[str, HubFile] = field(default_factory=dict)

    @property
    def pinned(self) -> HubId:
        """The same commit, whatever the branch will be."""
        return HubId(self.id.repo, self.commit)


def parse_hub_id(where: str) -> HubId | None:
    """`org/name` or `org/name@revision`; None for anything else.

    >>> parse_hub_id("org/name@refs/pr/1")
    HubId(repo='org/name', revision='refs/pr/1')
    >>> parse_hub_id("a/folder/within") is None
    True
    """
    found = HUB_ID.fullmatch(where)
    # A revision is a path in the cache.
    if not found or ".." in where or where.startswith(".") or (found["revision"] or "x").startswith("/"):
        return None
    return HubId(found["repo"], found["revision"])


def open_snapshot(hub_id: HubId, patterns: Collection[str], largest: int) -> Snapshot:
    """Find the commit that a name stands for, and fetch its files of some names.

    Args:
        hub_id: The name.
        patterns: Which files of the top folder are fetched, such as `*.json`.
        largest: Files of more bytes than this are left where they are.

    Returns:
        The hub's answer; where the hub cannot be reached or does not let us in, what its cache has, without a listing.

    Raises:
        CheckpointError: There is no such repository or revision, or it is not for us, and the cache has it not.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        info = HfApi().model_info(hub_id.repo, revision=hub_id.revision, files_metadata=True, timeout=PATIENCE)
        listing = {
            sibling.rfilename: HubFile(sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else None)
            for sibling in info.siblings or ()
        }
        names = [name for name, file in listing.items() if _fits(name, patterns) and file.num_bytes <= largest]
        folder = _fetch(hub_id, names)
    except RevisionNotFoundError:
        hint = f"see the branches, tags and commits of {hub_id.repo} on its page"
        raise CheckpointError(f"{hub_id}: the hub has no such revision of {hub_id.repo}", hint=hint) from None
    except Exception as error:  # the hub's client raises its own, its HTTP library's and the system's errors
        folder, listing = _cached(hub_id, error), {}
        return Snapshot(hub_id, folder.name, folder)
    if folder.name != info.sha:
        raise CheckpointError(f"{hub_id} moved to another commit while it was opened", hint="run the command again")
    return Snapshot(hub_id, folder.name, folder, listing)


def fetch(snapshot: Snapshot, names: Collection[str]) -> None:
    """Fetch files of a snapshot into its folder, those that are not there yet.

    Raises:
        CheckpointError: The hub does not give them.
    """
    if missing := [name for name in names if not (snapshot.folder / name).exists()]:
        check_listed(snapshot, missing)
        _told(snapshot.pinned, lambda: _fetch(snapshot.pinned, missing))


def check_listed(snapshot: Snapshot, names: Collection[str]) -> None:
    """Check that the hub, as far as it was reached, has files that the cache has not.

    Raises:
        CheckpointError: One is missing.
    """
    if missing := sorted(set(names) - set(snapshot.listing)):
        hint = "fetch it while the hub can be reached"
        raise CheckpointError(f"{snapshot.id}: the cache has no {missing[0]}, and the hub cannot be asked", hint=hint)


def read_start(snapshot: Snapshot, name: str, num_bytes: int) -> bytes:
    """Read the first bytes of a file on the hub, and no more: one HTTP range request.

    Returns:
        `num_bytes` bytes, or fewer where the file is shorter.

    Raises:
        CheckpointError: The hub does not give them.
    """
    return _told(snapshot.pinned, lambda: _read_range(snapshot, name, num_bytes))


def _read_range(snapshot: Snapshot, name: str, num_bytes: int) -> bytes:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

    url = hf_hub_url(snapshot.id.repo, name, revision=snapshot.commit)
    headers = build_hf_headers() | {"Range": f"bytes=0-{num_bytes - 1}", "Accept-Encoding": "identity"}
    content = bytearray()
    with http_stream_backoff("GET", url, headers=headers, timeout=PATIENCE, max_retries=2) as response:
        hf_raise_for_status(response)
        # A server that knows no ranges would send gigabytes: what is too much is not waited for.
        for chunk in response.iter_bytes(2**16):
            content += chunk
            if len(content) >= num_bytes:
                break
    return bytes(content[:num_bytes])


def _fits(name: str, patterns: Collection[str]) -> bool:
    return "/" not in name and any(fnmatch(name, pattern) for pattern in patterns)


def _fetch(hub_id: HubId, names: Collection[str]) -> Path:
    """Fetch files by the hub's own client, which keeps them in its cache; returns the commit's folder."""
    import glob

    from huggingface_hub import snapshot_download

    wanted = [glob.escape(name) for name in names]
    return Path(snapshot_download(hub_id.repo, revision=hub_id.revision, allow_patterns=wanted))


def _cached(hub_id: HubId, error: Exception) -> Path:
    """The folder in the cache of what the hub did not give because of `error`."""
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            hub_id.repo, revision=hub_id.revision, local_files_only=True, allow_patterns=["config.json"]
        )
    except Exception:
        raise _fault(hub_id, error) from None
    return Path(found)


def _told(hub_id: HubId, ask: Callable[[], Result]) -> Result:
    try:
        return ask()
    except Exception as error:  # as above
        raise _fault(hub_id, error) from None


def _fault(hub_id: HubId, error: Exception) -> CheckpointError:
    """What to say of an error of the hub's client."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        what = "it is gated, and your login has no access"
        hint = f"ask for access on the page of {hub_id.repo}, then run `hf auth login`"
    elif isinstance(error, errors.RepositoryNotFoundError):
        what = "it has no such repository, or a private one"
        hint = "check the name; for a private repository run `hf auth login`"
    elif constants.HF_HUB_OFFLINE:
        what, hint = "HF_HUB_OFFLINE is set, and the cache has it not", "check the name, or unset HF_HUB_OFFLINE"
    else:
        what = next(iter(str(error).strip().splitlines()), type(error).__name__)
        hint = "check the network, or give a local folder; for a private or gated repository run `hf auth login`"
    return CheckpointError(
        f"no such checkpoint: {hub_id} is no folder here, and the hub did not give it", details=[what], hint=hint
    )
