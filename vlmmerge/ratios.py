"""The ratios that a recipe fixes, spread over the slots: numbers, control points over depth, parts and roles.

Knows slots and parents by name, and the forms in which a recipe writes a ratio. Does not know genes, models, files, or
how ratios are used.
"""

from collections.abc import Iterable, Mapping, Sequence

from vlmmerge.anatomy import Slot
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio, Ratios, between, count_layers, position, short_roles
from vlmmerge.recipe.faults import suggestion

Points = float | Sequence[float]
"""One number at every depth, or control points over depth."""

Form = Points | Mapping[str, Points]
"""Points for the whole tower, or points by role, by part, and by default."""

DEFAULT = "default"  # what a mapping says for the parts and roles that it does not name


def fixed_ratios(slots: Iterable[Slot], parents: Sequence[str], ratios: Mapping[str, Mapping[str, Form]]) -> Ratios:
    """Spread the ratios that a recipe fixes over the slots.

    Args:
        slots: Every slot of the language tower that is blended.
        parents: `vlm` and the LLMs, by name.
        ratios: For each parent, `weight` and maybe more of a `Ratio`'s fields, each in one of three forms. A number.
            Control points over depth with straight lines between, the first at layer 0 and the last at the last layer;
            the embeddings take the first, the final norm and the head the last. A mapping to either of these from roles
            (`q_proj`, see `Slot.short_role`), parts (`Slot.part`) and `default`: a slot takes what its role says, else
            its part, else the default.

    Raises:
        VlmMergeError: A parent without a weight, a name that is no part or role of the tower, slots that a mapping says
            nothing for, or a value out of range.
    """
    slots = tuple(slots)
    if missing := [
        f"blend.ratios.{parent}.weight: missing" for parent in parents if "weight" not in ratios.get(parent, {})
    ]:
        raise VlmMergeError("fixed ratios need a weight for each parent", details=missing, hint="0 leaves a parent out")
    forms = [(f"blend.ratios.{parent}.{name}", form) for parent in parents for name, form in ratios[parent].items()]
    if faults := [fault for key, form in forms for fault in _faults(slots, key, form)]:
        raise VlmMergeError(
            "blend.ratios does not fit the language tower",
            details=faults,
            hint=f"the parts are {', '.join(_parts(slots))}; the roles are {', '.join(short_roles(slots))}",
        )
    num_layers = count_layers(slots)
    return {
        slot: {
            parent: Ratio(**{name: _value(form, slot, num_layers) for name, form in ratios[parent].items()})
            for parent in parents
        }
        for slot in slots
    }


def to_form(values: Mapping[Slot, float]) -> Form:
    """Write one number a slot in the form of a recipe, from which `fixed_ratios` reads the same numbers again.

    Args:
        values: A number for every slot of a language tower.

    Returns:
        A number if all are equal, else a mapping of parts, and of roles where a part's differ.

    Raises:
        ValueError: Slots of one role and layer differ (`q_proj.weight` and `q_proj.bias`), which no form can say.
    """
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    by_role: dict[str, dict[int, float]] = {}
    for slot, value in values.items():
        layer = 0 if slot.layer is None else slot.layer
        if by_role.setdefault(slot.short_role, {}).setdefault(layer, value) != value:
            raise ValueError(f"{slot.short_role} of layer {slot.layer}")
    num_layers = count_layers(values)
    points = {role: _shortest(of_layers, num_layers) for role, of_layers in by_role.items()}
    form: dict[str, Points] = {}
    for part in _parts(values):
        of_part = {role: points[role] for role in short_roles(slot for slot in values if slot.part == part)}
        first, *others = of_part.values()
        form |= {part: first} if all(other == first for other in others) else of_part
    return form


def _shortest(of_layers: Mapping[int, float], num_layers: int) -> Points:
    """One number if that is enough, else one a layer; a layer that has none takes the one before."""
    if len(set(of_layers.values())) == 1:
        return next(iter(of_layers.values()))
    points = [of_layers[min(of_layers)]]
    for layer in range(1, num_layers):
        points.append(of_layers.get(layer, points[-1]))
    return points


def _value(form: Form, slot: Slot, num_layers: int) -> float:
    """What a form says for a slot; at a control point, that point exactly."""
    points = _points(form, slot)
    assert points is not None, f"{slot} is in no part that the ratios name"
    if not isinstance(points, Sequence):
        return float(points)
    if slot.layer is None:
        return float(points[0] if slot.part == "embeddings" else points[-1])
    index, fraction = position(slot.layer, num_layers, len(points))
    return between(points[index], points[index + 1], fraction) if fraction else float(points[index])


def _points(form: Form, slot: Slot) -> Points | None:
    """The points that hold for a slot; None where a mapping says nothing for it."""
    if not isinstance(form, Mapping):
        return form
    return next((form[name] for name in (slot.short_role, slot.part, DEFAULT) if name in form), None)


def _faults(slots: Sequence[Slot], key: str, form: Form) -> list[str]:
    """Fault lines for names that are no part or role of these slots, and for slots that the form says nothing for."""
    names = [*_parts(slots), *short_roles(slots), DEFAULT]
    unknown = [name for name in form if name not in names] if isinstance(form, Mapping) else []
    faults = [f"{key}.{name}: no such part or role{suggestion(name, names)}" for name in unknown]
    if left_out := short_roles(slot for slot in slots if _points(form, slot) is None):
        faults.append(f"{key}: nothing for {', '.join(left_out)}; name each of them, its part, or a {DEFAULT}")
    return faults


def _parts(slots: Iterable[Slot]) -> list[str]:
    return list(dict.fromkeys(slot.part for slot in slots))
