"""What a model's class takes where a config is silent: read from transformers' source, of which nothing is run.

To import the classes takes seconds and hundreds of MiB; `vlmmerge inspect` takes neither. Knows where transformers
keeps its configurations. Does not know what a setting means.
"""

import ast
import importlib.util
import operator
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {ast.Mult: operator.mul, ast.Pow: operator.pow}


@cache
def class_defaults(model_type: str) -> dict[str, Any]:
    """The settings that the class of a model type gives itself.

    Args:
        model_type: As config.json says it.

    Returns:
        A value for each setting that stands as a plain value in the source; nothing for an unknown model type.

    >>> class_defaults("mistral")["rms_norm_eps"], class_defaults("no-such-type")
    (1e-06, {})
    """
    trees = [ast.parse(source) for source in _sources(model_type)]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for node in classes:
        found = dict(_settings(node))
        # A model of three towers keeps its language's settings in a class of their own.
        if found.get("model_type") in (model_type, f"{model_type}_text") and "hidden_size" in found:
            return found
    return {}


def _sources(model_type: str) -> Iterator[str]:
    """The text of the files that may define a model type: its folder is named like it, but for a suffix or two."""
    found = importlib.util.find_spec("transformers")
    if not found or not found.origin or not re.fullmatch(r"\w[\w-]{,60}", model_type):
        return
    words = model_type.replace("-", "_").split("_")
    for length in range(len(words), 0, -1):
        folder = Path(found.origin).parent / "models" / "_".join(words[:length])
        yield from (file.read_text(encoding="utf-8") for file in sorted(folder.glob("configuration_*.py")))


def _settings(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign | ast.Assign) or statement.value is None:
            continue
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        if isinstance(target, ast.Name):
            with suppress(ValueError):  # no plain value
                yield target.id, _evaluate(statement.value)


def _evaluate(value: ast.expr) -> Any:
    if isinstance(value, ast.BinOp) and type(value.op) in OPERATORS:
        return OPERATORS[type(value.op)](ast.literal_eval(value.left), ast.literal_eval(value.right))
    return ast.literal_eval(value)
