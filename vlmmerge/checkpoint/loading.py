"""Loading a model's parts with transformers, so that nothing of a stranger's runs unless the user trusts it.

Knows a checkpoint's `auto_map` and chat template. Does not know what the parts are for.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlmmerge.checkpoint.jsonfile import read_object
from vlmmerge.errors import CheckpointError

# The files whose `auto_map` names code, by what it is for.
CODE_FILES = (
    "config.json", "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
    "tokenizer_config.json",
)  # fmt: skip


def load_part(folder: Path, load: Callable[..., Any], trusts_code: bool) -> Any:
    """Load a part of a model by one of transformers' `from_pretrained`.

    Code that comes with the checkpoint runs only if it is trusted and transformers has no class of its own.

    Args:
        folder: A local checkpoint.
        load: A bound `from_pretrained`, called with the folder and keyword arguments.
        trusts_code: Whether the user trusts that code.

    Raises:
        CheckpointError: It wants such code and is not trusted, or it does not load.
    """
    try:
        return load(folder, trust_remote_code=False, local_files_only=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except (
        BaseException
    ) as error:  # a stranger's files make the libraries raise anything; their panics are no Exception
        wants_code = "trust_remote_code" in str(error)
        if not wants_code:
            raise _told(folder, error) from None
        if not trusts_code:
            raise CheckpointError(
                f"{folder} wants code to be run that comes with it, for transformers has no class of its own for it",
                details=wanted_code(folder),
                hint="read that code; if you trust it, add --trust-remote-code",
            ) from None
    try:
        return load(folder, trust_remote_code=True)
    except Exception as error:
        raise _told(folder, error) from None


def wanted_code(folder: Path) -> list[str]:
    """What would run: a line for each class that the checkpoint's `auto_map`s name, with its file and where that is."""
    lines: dict[str, None] = {}
    for name in CODE_FILES:
        if (folder / name).is_file():
            auto_map = read_object(folder / name).get("auto_map")
            for reference in _texts(auto_map):
                repository, _, place = reference.rpartition("--")
                module, _, class_name = place.rpartition(".")
                whence = f"hub repository {repository}" if repository else str(folder)
                lines[f"class {class_name} of {module.replace('.', '/')}.py in {whence}"] = None
    return list(lines)


def does_not_load(folder: Path, reason: str) -> CheckpointError:
    """What to say of a folder that holds no VLM."""
    return CheckpointError(
        f"{folder}: transformers does not load it as an image-text-to-text model",
        details=[reason[:300]],
        hint="`parents.vlm` and MODEL must be vision-language models with a processor",
    )


def _told(folder: Path, error: BaseException) -> CheckpointError:
    return does_not_load(folder, next(iter(str(error).strip().splitlines()), type(error).__name__))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if re.fullmatch(r"\S+\.\w+", value) else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in _texts(each)]
