"""Another VLM's eyes for a model: its files, tower, projector, tiles and processor, with the model's language tower.

It is a blend for the eyes of a `vision` parent (`parents.vision` in a recipe) of one language tower alone, at weight 1:
what anatomy, vocabulary and export know of such blends holds here. Knows both checkpoints. Does not know the score.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vlmmerge.anatomy import VISION
from vlmmerge.backbone.card import where
from vlmmerge.errors import ParentsError
from vlmmerge.export.folder import UNWATCHED, ExportWatcher, write_model
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import Recipe
from vlmmerge.resident import check_repeated_heads


def plan_donor(model: str, donor: str) -> Plan:
    """Open both and pair their language towers.

    Args:
        model: Whose language tower is kept: a folder or hub id.
        donor: Whose eyes, files and vocabulary there will be.

    Raises:
        CheckpointError: One cannot be opened, or is no VLM.
        ParentsError: Their language towers differ in shape, or their tokenizers cut the same text otherwise.
    """
    parents = {"vlm": model, "base": model, "llms": {"again": model}, VISION: donor}
    recipe = Recipe.model_validate({"parents": parents, "blend": {"method": "linear"}})
    # A recipe must have a language model to blend; here there is none.
    alone = recipe.model_copy(update={"parents": recipe.parents.model_copy(update={"llms": {}})})
    with _told_of(model, donor):
        plan = make_plan(alone)
        check_repeated_heads(plan)
    return plan


def write_donor(plan: Plan, folder: Path, on_bytes: Callable[[int], None] = UNWATCHED.on_bytes) -> None:
    """Write the donor's files with the model's language tower into an empty folder.

    Language tensors keep their bytes where the donor stores the same dtype; all others keep the donor's.
    """
    write_model(plan, plan.uniform({"vlm": 1.0}), folder, ExportWatcher(on_bytes))


def about_donor(plan: Plan) -> str:
    """What the swap is, for its card."""
    model, donor = where(plan.checkpoints["vlm"]), where(plan.eyes)
    rows = "".join(f" Vocabulary, {name}: {text}." for name, text in plan.vocabulary.policy.items())
    return (
        f"The language tower of `{model}` in the files of `{donor}`, whose vision tower, projector and processor these "
        f"are, byte for byte. Nothing was trained.{rows}"
    )


@contextmanager
def _told_of(model: str, donor: str) -> Iterator[None]:
    """Tell misfits by what was typed, in place of a recipe's names for parents."""
    try:
        yield
    except ParentsError as error:
        names = {"`vlm`": f"`{model}`", "`base`": f"`{model}`", f"`{VISION}`": f"`{donor}`"}

        def renamed(text: str) -> str:
            for name, typed in names.items():
                text = text.replace(name, typed)
            return text

        hint = f"give a donor whose language tower is of one kind with the model's; `vlmmerge inspect {model} {donor}`"
        raise ParentsError(
            f"the donor's language tower does not fit: {renamed(error.message)}",
            details=[renamed(line) for line in error.details],
            hint=hint,
        ) from None
