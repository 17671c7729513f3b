"""A folder of unlabelled pictures: found, read, and divided into those to fit to and those held out.

Knows files. Does not know models.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from vlmmerge.errors import EvalsetError, VlmMergeError
from vlmmerge.evalsets.pictures import decode, read_picture_file

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))
HELD_OUT_EVERY = 10
FEWEST = 2
NUM_NAMED = 3  # of the pictures that cannot be read


@dataclass(frozen=True)
class Pictures:
    """Pictures that can be read, each once.

    Args:
        train, held_out: Their files, in the order of their contents' sha256.
        unreadable: A line for each file that was skipped.
        num_repeated: How many files hold the bytes of another one.
    """

    train: Sequence[Path]
    held_out: Sequence[Path]
    unreadable: Sequence[str]
    num_repeated: int

    @property
    def notes(self) -> list[str]:
        """What a person should know of what was left out, in words."""
        notes = []
        if self.unreadable:
            count = "1 picture" if len(self.unreadable) == 1 else f"{len(self.unreadable)} pictures"
            more = len(self.unreadable) - NUM_NAMED
            named = "; ".join(self.unreadable[:NUM_NAMED]) + (f"; and {more} more" if more > 0 else "")
            notes.append(f"{count} skipped: {named}")
        if self.num_repeated:
            notes.append(f"{self.num_repeated} skipped: the same bytes as another picture")
        return notes


def find_pictures(folder: Path, most: int) -> Pictures:
    """Find pictures in a folder and the folders in it.

    Which ones are taken, and which are held out (every tenth), depends on their contents alone, not on their names.

    Args:
        folder: It may hold other files, too.
        most: How many are used at most.

    Raises:
        VlmMergeError: There is no such folder, or fewer than two pictures in it can be read.
    """
    if not folder.is_dir():
        raise VlmMergeError(f"no such folder: {folder}", hint="check --images")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())
    unreadable: list[str] = []
    by_content: dict[str, Path] = {}
    for file in files:
        try:
            by_content.setdefault(hashlib.sha256(read_picture_file(file)).hexdigest(), file)
        except EvalsetError as error:
            unreadable.append(error.message)
    num_repeated = len(files) - len(unreadable) - len(by_content)
    used = list(islice(_readable([by_content[key] for key in sorted(by_content)], unreadable), most))
    if len(used) < FEWEST:
        found = f"{len(files)} with a picture's name, {len(used)} that can be read" if files else "none"
        endings = ", ".join(sorted(SUFFIXES))
        raise VlmMergeError(
            f"too few pictures in {folder}: {found}",
            details=unreadable[:NUM_NAMED],
            hint=f"give a folder with hundreds of pictures ({endings}), as like as can be to those to be asked about",
        )
    held_out = used[::HELD_OUT_EVERY]
    return Pictures([file for file in used if file not in set(held_out)], held_out, unreadable, num_repeated)


def read_square(file: Path) -> Image.Image:
    """As `square`, of a file."""
    return square(decode(read_picture_file(file), str(file)))


def square(picture: Image.Image) -> Image.Image:
    """The largest square in the middle of a picture, which models of any kind see whole, and undistorted."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _readable(files: Sequence[Path], unreadable: list[str]) -> Iterator[Path]:
    """Those that can be decoded; of others a line is added to `unreadable`."""
    for file in files:
        try:
            decode(read_picture_file(file), str(file))
        except EvalsetError as error:
            unreadable.append(error.message)
        else:
            yield file
