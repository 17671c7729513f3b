"""The model card of an export: what it is made of, under which licence, how it scored, how to load and to remake it.

Knows what a card tells and how the hub reads it. Does not know files of weights, nor how the winner was found.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from vlmmerge import __version__
from vlmmerge.anatomy import VISION
from vlmmerge.blend import METHODS
from vlmmerge.exam import told_notes
from vlmmerge.export.licence import Licence, read_licence, strictest, warnings
from vlmmerge.genome import Ratio, Ratios
from vlmmerge.plan import Plan
from vlmmerge.recipe import Generate

PATH = "PATH"  # stands in the card for where the model lies; a model that is pushed to the hub has its id there
QUESTION = "画像を説明してください。"
Row = tuple[str, tuple[str, ...]]


def licences_of(plan: Plan) -> dict[str, Licence]:
    """The licence that each parent's card states, by the parent's name."""
    return {name: read_licence(checkpoint.folder) for name, checkpoint in plan.checkpoints.items()}


def model_card(plan: Plan, ratios: Ratios, provenance: Mapping[str, Any]) -> str:
    """Write the README.md of an export.

    Args:
        plan: The parents and how they pair.
        ratios: What was blended.
        provenance: What is known of the candidate: `candidate`, `held_out`, `retention`; for fixed ratios none.

    Returns:
        Markdown, with a front matter that the hub reads.
    """
    licences = licences_of(plan)
    sections = [
        "# A vision-language model that speaks Japanese, merged without training",
        f"Its language tower is blended from {len(plan.blended_parents)} parents by `{plan.recipe.blend.method}`; its "
        f"vision tower and projector are those of the `{plan.layout}` parent, byte for byte.",
        *warning_box(licences),
        _parents(plan, licences),
        _scores(provenance.get("held_out", {})),
        _retention(plan, provenance.get("retention", {})),
        loading_code(plan.recipe.generate),
        _ratios(plan, ratios),
        _remaking(plan, provenance),
        f"Made by vlmmerge {__version__}. `vlmmerge.json` holds all of this for programs.",
    ]
    of_hub = [_where(plan, name) for name, checkpoint in plan.checkpoints.items() if checkpoint.commit]
    return f"---\n{front_matter(licences, of_hub)}---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def ratio_rows(ratios: Ratios, parameters: Iterable[str]) -> list[Row]:
    """The ratios as a short table: neighbours with the same ratios share a line.

    Returns:
        For each line its place, and for each parameter of each parent its value, or its range within the place.
    """
    places: dict[tuple[int, str], list[Mapping[str, Ratio]]] = {}
    for slot in sorted(ratios):
        places.setdefault((-1 if slot.layer is None else slot.layer, slot.part), []).append(ratios[slot])
    cells = {place: tuple(_cells(found, list(parameters))) for place, found in places.items()}
    layers = sorted({layer for layer, _ in cells if layer >= 0})
    of_layer = {
        layer: {part: cells[where, part] for where, part in sorted(cells) if where == layer} for layer in layers
    }
    rows = [("embeddings", cells[-1, "embeddings"])] if (-1, "embeddings") in cells else []
    for parts, group in itertools.groupby(layers, of_layer.__getitem__):
        members = list(group)
        name = f"layer {members[0]}" if len(members) == 1 else f"layers {members[0]} to {members[-1]}"
        if len(set(parts.values())) == 1:
            rows.append((name, next(iter(parts.values()))))
        else:
            rows += [(f"{name}, {part}", text) for part, text in parts.items()]
    return rows + ([("head", cells[-1, "head"])] if (-1, "head") in cells else [])


def _cells(ratios: list[Mapping[str, Ratio]], parameters: list[str]) -> Iterator[str]:
    for parent, parameter in itertools.product(ratios[0], parameters):
        values = [getattr(ratio[parent], parameter) for ratio in ratios]
        low, high = f"{min(values):.3f}", f"{max(values):.3f}"
        yield low if low == high else f"{low} to {high}"


def front_matter(licences: Mapping[str, Licence], of_hub: Sequence[str]) -> str:
    """What the hub reads of a card: YAML.

    Args:
        licences: The parents', of which the strictest is the card's.
        of_hub: The hub ids of the parents that are there.
    """
    licence = strictest(licences)
    fields: dict[str, Any] = {
        "language": ["ja"],
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["merge", "vlmmerge", "vision-language-model"],
        **({"base_model": of_hub, "base_model_relation": "merge"} if of_hub else {}),
    }
    if licence.kind == "not stated":
        fields["license"] = "unknown"
    elif licence.kind == "terms of use" or licence.link:  # the hub knows some of these names, and takes all as `other`
        fields |= {"license": "other", "license_name": licence.name}
        fields |= {"license_link": licence.link} if licence.link else {}
    else:
        fields["license"] = licence.name
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def warning_box(licences: Mapping[str, Licence]) -> list[str]:
    """What must be said loudly of the licences, if anything."""
    lines = warnings(licences)
    return ["> [!WARNING]\n" + "\n".join(f"> {line}" for line in lines)] if lines else []


def _parents(plan: Plan, licences: Mapping[str, Licence]) -> str:
    rows = [
        (f"`{name}`", f"{_where(plan, name)} ({licences[name].name})", checkpoint.commit or "a local folder")
        for name, checkpoint in plan.checkpoints.items()
    ]
    licence = strictest(licences)
    told = {
        "not stated": "Not every parent states a licence: ask before you share this model.",
        "free": f"Of the parents' licences the strictest is {licence.name}.",
    }.get(licence.kind, f"Of the parents' licences the strictest is **{licence.name}** ({licence.kind}).")
    text = f"{told} The terms of all of them hold."
    return f"## Parents\n\n{_table(['', 'parent (licence)', 'revision'], rows)}\n\n{text}"


def _scores(held_out: Mapping[str, Any]) -> str:
    if not held_out.get("scores"):
        return ""
    text = "On data that the search never saw, with 95 % intervals:"
    return f"## Held-out scores\n\n{text}\n\n{_score_table(held_out)}{_guards(held_out.get('guarded'))}"


def _retention(plan: Plan, retention: Mapping[str, Any]) -> str:
    if not retention:
        return ""
    assert plan.recipe.evalset and plan.recipe.evalset.retention
    name = f"{plan.recipe.evalset.retention.name}:{plan.recipe.evalset.retention.split}"
    text = f"What the merge has kept of the VLM parent's own language, on `{name}`, with 95 % intervals:"
    return f"## Retention\n\n{text}\n\n{_score_table(retention)}"


def _score_table(told: Mapping[str, Any]) -> str:
    """This model's scores below those of the blends beside it, and their signatures."""
    blends = {**told.get("beside", {}), "**this model**": told["scores"]}
    metrics = list(told["scores"])
    rows = [
        (name, *(f"{scores[m]['value']:.2f} ({scores[m]['low']:.2f} to {scores[m]['high']:.2f})" for m in metrics))
        for name, scores in blends.items()
    ]
    signatures = [*(told["scores"][metric]["signature"] for metric in metrics), told.get("asked", "")]
    lines = [f"- `{signature}`" for signature in signatures if signature]
    lines += [f"- {note}" for note in told_notes(blends)]
    return f"{_table(['', *metrics], rows)}\n\n" + "\n".join(lines)


def _guards(guarded: Mapping[str, Any] | None) -> str:
    if not guarded:
        return ""
    found = [f"{name} {guard['value']:.2f} (keeps {guard['kept']:.0%})" for name, guard in guarded["guards"].items()]
    return f"\n\nThe guards found: {', '.join(found)}."


def loading_code(settings: Generate) -> str:
    """A section with the code that loads a model and asks it as it was asked."""
    question, system = settings.question or QUESTION, settings.system
    turn = f'{{"role": "system", "content": [{{"type": "text", "text": {_quoted(system)}}}]}},\n    ' if system else ""
    return f"""## Load it

```python
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

processor = AutoProcessor.from_pretrained("{PATH}")
model = AutoModelForImageTextToText.from_pretrained("{PATH}", dtype="auto")
content = [{{"type": "image", "image": Image.open("picture.jpg")}}, {{"type": "text", "text": {_quoted(question)}}}]
messages = [
    {turn}{{"role": "user", "content": content}},
]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
).to(model.device, model.dtype)
answer = model.generate(**inputs, {_decoding(settings)}do_sample=False)
print(processor.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def _decoding(settings: Generate) -> str:
    beams = f"num_beams={settings.beams}, " if settings.beams > 1 else ""
    penalty = f"repetition_penalty={settings.repetition_penalty}, " if settings.repetition_penalty != 1 else ""
    return f"max_new_tokens={settings.max_new_tokens}, {beams}{penalty}"


def _ratios(plan: Plan, ratios: Ratios) -> str:
    parameters = METHODS[plan.recipe.blend.method].parameters
    if not parameters:
        return ""
    header = [
        "",
        *(f"{parent} {parameter}" for parent, parameter in itertools.product(plan.blended_parents, parameters)),
    ]
    rows = [(place, *cells) for place, cells in ratio_rows(ratios, parameters)]
    return f"## Ratios\n\n{_table(header, rows)}"


def _remaking(plan: Plan, provenance: Mapping[str, Any]) -> str:
    is_candidate = "candidate" in provenance
    sections = None if is_candidate else {"parents", "blend"}
    written = plan.recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=sections)
    recipe = {"parents": _parents_of_recipe(plan)} | {key: value for key, value in written.items() if key != "parents"}
    told = "`vlmmerge blend recipe.yaml --out DIR`"
    if is_candidate:
        told = f"It is candidate {provenance['candidate']['index']} of `vlmmerge evolve recipe.yaml`"
    if start := provenance.get("start"):
        told += f" `--start-from` candidate {start['candidate']} of the run {start['run'][:12]}"
    text = yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)
    return f"## Make it again\n\n{told}, with vlmmerge {__version__} and this recipe:\n\n```yaml\n{text}```"


def _parents_of_recipe(plan: Plan) -> dict[str, Any]:
    places = {
        name: _where(plan, name) + (f"@{checkpoint.commit}" if checkpoint.commit else "")
        for name, checkpoint in plan.checkpoints.items()
    }
    fixed = {name: places.pop(name) for name in ("vlm", "base", VISION) if name in places}
    return {**fixed, "llms": places}


def _where(plan: Plan, name: str) -> str:
    """A hub id without its revision; of a local folder only its name, for a card travels."""
    checkpoint = plan.checkpoints[name]
    return checkpoint.snapshot.id.repo if checkpoint.snapshot else checkpoint.folder.name


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
