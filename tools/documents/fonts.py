"""The typefaces of ja-documents: free Japanese fonts from npm, at pinned versions.

Knows where the fonts come from, where they are kept, and which characters each of them has. The font files stay outside
the repository; the pictures that are drawn with them lie in it, which their licence (SIL OFL 1.1) allows.
"""

import functools
from pathlib import Path

from fontTools.ttLib import TTFont
from packages import Package, PackageError, read
from packages import fetch as fetch_archive
from PIL import ImageFont, features

FOLDER = Path.home() / ".cache" / "vlmmerge" / "fonts"


def _package(name: str, version: str, sha256: str) -> Package:
    archive = f"expo-google-fonts-{name}-{version}.tgz"
    return Package(f"@expo-google-fonts/{name}", "npm", version, archive, sha256)


_SANS = _package("noto-sans-jp", "0.4.3", "563ee80509692e2b2f42ceae6a0b82afecb90daa1b3d025bcebdf3d9120f43a3")
_SERIF = _package("noto-serif-jp", "0.4.3", "4805f4369a831140d0c1a5650e90296cff2641ff202da43ef5272edc2e0866ee")
_MARU = _package("zen-maru-gothic", "0.4.1", "4511eb0b11847b3e4a7c9515271f65476f305458ebed04f55470bee92340cdb2")
_BRUSH = _package("yuji-syuku", "0.4.1", "6b16771510936a4587ae13b2027689a7a317f18ea33463459253f497678d4146")
_PEN = _package("klee-one", "0.4.1", "d6ccbe88e737bf2105e39f8a0f6449d1cf7a10889b52093fa9e7e9e18e346339")
# Each typeface: the package that carries it, and its path in there.
SOURCES = {
    "sans": (_SANS, "400Regular/NotoSansJP_400Regular.ttf"),
    "sans_bold": (_SANS, "700Bold/NotoSansJP_700Bold.ttf"),
    "serif": (_SERIF, "400Regular/NotoSerifJP_400Regular.ttf"),
    "serif_bold": (_SERIF, "700Bold/NotoSerifJP_700Bold.ttf"),
    "maru": (_MARU, "500Medium/ZenMaruGothic_500Medium.ttf"),
    "maru_bold": (_MARU, "700Bold/ZenMaruGothic_700Bold.ttf"),
    "brush": (_BRUSH, "400Regular/YujiSyuku_400Regular.ttf"),
    "pen": (_PEN, "600SemiBold/KleeOne_600SemiBold.ttf"),
}


def fetch() -> None:
    """Bring every typeface that is missing into FOLDER.

    Raises:
        SystemExit: Pillow cannot set vertical text, or a package cannot be had or is not the pinned one.
    """
    if not features.check("raqm"):
        raise SystemExit("Pillow has no libraqm, which sets vertical text\nhint: apt install libfribidi0")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (package, path) in SOURCES.items():
        if not _file(name).exists():
            try:
                _file(name).write_bytes(read(fetch_archive(package, FOLDER), f"package/{path}"))
            except PackageError as error:
                raise SystemExit(str(error)) from None


def are_here() -> bool:
    """Whether every typeface is at hand and Pillow can set vertical text."""
    return bool(features.check("raqm")) and all(_file(name).exists() for name in SOURCES)


def _file(name: str) -> Path:
    return FOLDER / Path(SOURCES[name][1]).name


@functools.cache
def load(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A typeface at `size` pixels."""
    return ImageFont.truetype(str(_file(name)), size, layout_engine=ImageFont.Layout.RAQM)


@functools.cache
def _characters(name: str) -> frozenset[int]:
    with TTFont(_file(name), lazy=True) as font:
        return frozenset(font.getBestCmap())


def missing(name: str, text: str) -> str:
    """The characters of `text` that the typeface does not have."""
    return "".join(character for character in text if ord(character) not in _characters(name))
