"""Data flows from left to right: a module imports only modules to its left, and only the search knows EvoTorch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlmmerge

PACKAGE = Path(vlmmerge.__file__).parent
ORDER = [
    "errors",
    "recipe",
    "outfolder",
    "cache",
    "finite",
    "checkpoint",
    "anatomy",
    "genome",
    "ratios",
    "mergekit",
    "blend",
    "inspection",
    "jsonlines",
    "evalsets",
    "generate",
    "blind",
    "score",
    "exam",
    "compare",
    "ask",
    "answers",
    "apart",
    "plan",
    "resident",
    "evaluate",
    "journal",
    "search",
    "export",
    "backbone",
    "run",
    "estimate",
    "summary",
    "console",
    "tables",
    "scoreboard",
    "arguments",
    "cli",
]
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Each import in a file with the full name of what is imported, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def place(name: str) -> int:
    """Where a module of the package stands in the order; the package itself (its version) stands before all."""
    parts = name.split(".")
    return ORDER.index(parts[1]) if len(parts) > 1 and parts[1] != "__version__" else -1


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_modules_to_its_left(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    own = file.relative_to(PACKAGE.parent).with_suffix("")
    here = place(".".join(own.parts)) if own.parts[-1] != "__init__" or len(own.parts) > 2 else -1
    for node, name in imports(tree):
        if name.split(".")[0] == "vlmmerge":
            is_sibling = len(own.parts) > 2 and place(name) == here
            assert place(name) < here or is_sibling, f"line {node.lineno}: {name} is not to the left of {own}"
            assert name.split(".")[1] != "search" or node not in tree.body, f"line {node.lineno}: takes seconds"
        if name.split(".")[0] in ("evotorch", "ray"):
            assert own.stem == "search", f"line {node.lineno}: only search.py knows {name}"


def test_the_order_names_every_module() -> None:
    names = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert names - {"__init__"} == set(ORDER)
