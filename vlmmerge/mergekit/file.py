"""The parts of a mergekit file: who is named where, with which settings, in which layers.

Knows the file's keys, and which of them vlmmerge cannot express. Does not know checkpoints.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vlmmerge.mergekit.methods import COUNTERPARTS, Counterpart
from vlmmerge.mergekit.settings import Settings, faults_of_settings
from vlmmerge.recipe.faults import shown, suggestion

READ = ("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype", "tokenizer_source")
NOT_READ = {
    "modules": "only the language tower is blended; write its models or slices at the top",
    "tokenizer": "the VLM's own is kept; leave the key out",
    "chat_template": "the VLM's own is kept; leave the key out",
}


@dataclass(frozen=True)
class Source:
    """A model in a slice: where it stands in the file, its name as written (empty: it has none), its settings there."""

    key: str
    model: str
    settings: Settings


@dataclass(frozen=True)
class Slice:
    """The layers [first, end) with their sources; an `end` of None is the last layer's."""

    sources: tuple[Source, ...]
    settings: Settings
    first: int = 0
    end: int | None = None


@dataclass(frozen=True)
class MergekitFile:
    """What a file says. `is_whole`: it can be read tensor by tensor, whatever else is wrong with it."""

    counterpart: Counterpart | None
    base_model: str | None
    slices: tuple[Slice, ...]
    settings: Settings
    dtype: str | None
    tokenizer_source: str | None
    is_whole: bool

    @property
    def has_models(self) -> bool:
        """Whether it names `models`, which go through all layers, and not `slices`."""
        return bool(self.slices) and self.slices[0].end is None

    @property
    def places(self) -> dict[str, str]:
        """The models in the slices, each once, with the key of its first place in the file."""
        places: dict[str, str] = {}
        for source in [source for part in self.slices for source in part.sources if source.model]:
            places.setdefault(source.model, f"{source.key}.model")
        return places

    @property
    def names_all_models(self) -> bool:
        """Whether there are models, and each of them has a name."""
        names = [source.model for part in self.slices for source in part.sources]
        return bool(names) and all(names)


def parse(data: dict[str, Any]) -> tuple[MergekitFile, list[str]]:
    """Sort a file's plain values; returns what it says and fault lines for all that vlmmerge cannot express."""
    known = [*READ, *NOT_READ]
    faults = [
        f"{key}: {NOT_READ[key]}" if key in NOT_READ else f"{key}: unknown key{suggestion(key, known)}"
        for key, value in data.items()
        if key not in READ and value is not None
    ]
    texts = {key: _read_text(key, data.get(key), faults) for key in ("dtype", "out_dtype", "tokenizer_source")}
    breaks: list[str] = []
    method = data.get("merge_method")
    if method not in COUNTERPARTS:
        names = f"{', '.join(COUNTERPARTS)}{suggestion(str(method), COUNTERPARTS)}"
        breaks.append(f"merge_method: {shown(method)} is not one of {names}")
    bases = [_read_model("base_model", data["base_model"], breaks)] if data.get("base_model") is not None else []
    slices = tuple(_read_slices(data, bases, breaks))
    breaks += faults_of_settings("parameters", data.get("parameters"))
    file = MergekitFile(
        counterpart=COUNTERPARTS.get(str(method)),
        base_model=bases[0] if bases else None,
        slices=slices,
        settings=data.get("parameters") or {},
        dtype=texts["out_dtype"] or texts["dtype"],
        tokenizer_source=texts["tokenizer_source"],
        is_whole=not breaks,
    )
    return file, faults + breaks


def _read_slices(data: dict[str, Any], bases: list[str], faults: list[str]) -> Iterator[Slice]:
    """Read slices, which must hold each layer once and in order, or models; a slice's own base joins `bases`."""
    has_models, has_slices = (data.get(key) is not None for key in ("models", "slices"))
    if has_models == has_slices:
        faults.append(f"models: wanted either models or slices, found {'both' if has_models else 'neither'}")
    elif has_models:
        yield Slice(tuple(_read_sources("models", data["models"], ("model", "parameters"), faults)), {})
    else:
        end, keys = 0, ("model", "layer_range", "parameters")
        parts = _entries("slices", data["slices"], ("sources", "base_model", "parameters"), faults)
        for number, part in enumerate(parts):
            key = f"slices[{number}]"
            if part.get("base_model") is not None:
                bases.append(_read_model(f"{key}.base_model", part["base_model"], faults))
                if bases[-1] != bases[0]:
                    faults.append(f"{key}.base_model: wanted one base for all slices, {bases[0]}, found {bases[-1]}")
            sources = tuple(_read_sources(f"{key}.sources", part.get("sources"), keys, faults))
            faults += faults_of_settings(f"{key}.parameters", part.get("parameters"))
            first, end = _read_layers(f"{key}.sources", part.get("sources"), end, faults)
            yield Slice(sources, part.get("parameters") or {}, first, end)


def _read_layers(key: str, sources: Any, after: int, faults: list[str]) -> tuple[int, int]:
    """Read the layers of a slice's sources: those that follow `after`, the same of each."""
    wanted: list[int] = []
    for number, source in enumerate(sources if isinstance(sources, list) else []):
        found = source.get("layer_range") if isinstance(source, dict) else None
        at = f"{key}[{number}].layer_range"
        if not (isinstance(found, list) and len(found) == 2 and all(type(layer) is int for layer in found)):
            faults.append(f"{at}: wanted [first, end], found {shown(found)}")
        elif wanted and found != wanted:
            faults.append(f"{at}: layers are stacked; wanted {wanted} as of the slice's first source, found {found}")
        elif not wanted and not found[0] == after < found[1]:
            faults.append(f"{at}: layers are stacked; wanted each once and in order, from {after} on, found {found}")
        wanted = wanted or (found if isinstance(found, list) else [])
    return (after, wanted[1]) if len(wanted) == 2 and type(wanted[1]) is int else (after, after)


def _read_sources(key: str, sources: Any, keys: tuple[str, ...], faults: list[str]) -> Iterator[Source]:
    seen: set[str] = set()
    for number, source in enumerate(_entries(key, sources, keys, faults)):
        at = f"{key}[{number}]"
        faults += faults_of_settings(f"{at}.parameters", source.get("parameters"))
        model = _read_model(f"{at}.model", source.get("model"), faults)
        if model in seen:
            faults.append(f"{at}.model: {model} stands here twice")
        else:
            seen |= {model} if model else set()
            settings = source.get("parameters")
            yield Source(at, model, settings if isinstance(settings, dict) else {})


def _entries(key: str, value: Any, keys: tuple[str, ...], faults: list[str]) -> Iterator[dict[str, Any]]:
    """Each entry of a list of mappings, an empty one where it is none, so that the numbers stay."""
    if not isinstance(value, list) or not value:
        faults.append(f"{key}: wanted a list of mappings of {', '.join(keys)}, found {shown(value)}")
        return
    for number, entry in enumerate(value):
        if not isinstance(entry, dict):
            faults.append(f"{key}[{number}]: wanted a mapping of {', '.join(keys)}, found {shown(entry)}")
        else:
            there_are = f"; the keys here are {', '.join(keys)}"
            unknown = [name for name in entry if name not in keys]
            faults += [f"{key}[{number}].{name}: unknown key{suggestion(name, keys, there_are)}" for name in unknown]
        yield entry if isinstance(entry, dict) else {}


def _read_model(key: str, value: Any, faults: list[str]) -> str:
    """A model's folder or hub id, from either form in which mergekit writes one; empty where there is none."""
    more = {}
    if isinstance(value, dict):
        more = {name: each for name, each in value.items() if name != "model" and each is not None}
        value = value.get("model")
        if isinstance(value, dict):
            more |= {name: each for name, each in value.items() if name != "path" and each is not None}
            value = value.get("path")
    elif isinstance(value, str):
        value, *adapter = value.split("+")
        value, *revision = value.split("@")
        more = {name: each for name, each in (("lora", adapter), ("revision", revision)) if each}
    if not isinstance(value, str) or not value:
        faults.append(f"{key}: wanted a folder or hub id, found {shown(value)}")
        return ""
    hints = {"lora": "merge the adapter into its model first", "revision": "fetch that revision and give its folder"}
    faults += [f"{key}: {name} is not read; {hints.get(name, 'leave it out')}" for name in more]
    return value


def _read_text(key: str, value: Any, faults: list[str]) -> str | None:
    if value is not None and not isinstance(value, str):
        faults.append(f"{key}: wanted text, found {shown(value)}")
        return None
    return value
