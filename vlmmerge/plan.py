"""What a recipe comes to before any weight is read: its parents opened and paired, and the search space.

Knows the recipe, headers and tokenizers. Does not know models in memory.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from torch import Tensor

from vlmmerge.anatomy import EMBEDDINGS, VISION, Anatomy, Slot, layout_of, study
from vlmmerge.anatomy.vocabulary import Vocabulary, study_vocabulary
from vlmmerge.apart import check_apart
from vlmmerge.blend import METHODS, Options
from vlmmerge.checkpoint import Checkpoint, open_checkpoint, open_headers
from vlmmerge.errors import VlmMergeError
from vlmmerge.evalsets import find_split
from vlmmerge.genome import Ratio, Ratios, SearchSpace, build_space
from vlmmerge.ratios import fixed_ratios
from vlmmerge.recipe import Guards, Recipe, Score
from vlmmerge.recipe.reading import faults_to_error
from vlmmerge.score.defaults import DEFAULT_OBJECTIVES, default_guards


@dataclass(frozen=True)
class Plan:
    """What a recipe comes to before any weight is read.

    Args:
        recipe: The recipe; where it has an evalset, its objective and guards are filled in.
        checkpoints: Each parent's opened checkpoint: `vlm`, `base`, the LLMs, and `vision` if the recipe has one.
        anatomy: How their tensors pair.
        space: The genes.
        vocabulary: How the rows of their embeddings and heads pair.
        fixed: The recipe's own ratios, if it has some.
        trusts_code: Whether code that comes with the VLM may run. No recipe can say so.
    """

    recipe: Recipe
    checkpoints: dict[str, Checkpoint]
    anatomy: Anatomy
    space: SearchSpace
    vocabulary: Vocabulary
    fixed: Ratios | None = None
    trusts_code: bool = False

    @property
    def pinned_recipe(self) -> Recipe:
        """The recipe with the commits that were opened in place of the hub's branches, which may move on."""
        opened = {name: checkpoint.snapshot for name, checkpoint in self.checkpoints.items()}
        pinned = {name: str(snapshot.pinned) for name, snapshot in opened.items() if snapshot}
        parents = self.recipe.parents
        llms = {name: pinned.get(name, where) for name, where in parents.llms.items()}
        fixed = {name: pinned.get(name, getattr(parents, name)) for name in ("vlm", "base", VISION)}
        update = parents.model_copy(update={**fixed, "llms": llms})
        return self.recipe.model_copy(update={"parents": update})

    @property
    def commits(self) -> dict[str, str]:
        """The hub's commit of each parent that is not a local folder."""
        return {name: checkpoint.commit for name, checkpoint in self.checkpoints.items() if checkpoint.commit}

    @property
    def blended_parents(self) -> list[str]:
        """The parents that have ratios: all but the base, and one that gives its eyes alone."""
        return ["vlm", *self.recipe.parents.llms]

    @property
    def read_parents(self) -> list[str]:
        """The parents whose language towers are read: the base and those that are blended."""
        return ["base", *self.blended_parents]

    @property
    def layout(self) -> str:
        """The parent whose files, eyes and vocabulary an export has: `vision` where there is one, else `vlm`."""
        return layout_of(self.checkpoints)

    @property
    def eyes(self) -> Checkpoint:
        """That parent's checkpoint, which is loaded, asked, and copied but for its language tower."""
        return self.checkpoints[self.layout]

    @property
    def options(self) -> Options:
        """What the recipe says of the whole blend."""
        return Options(**{field.name: getattr(self.recipe.blend, field.name) for field in fields(Options)})

    def uniform(self, weights: dict[str, float]) -> Ratios:
        """Ratios that are the same in every slot; parents that are not named get weight 0."""
        ratios = {parent: Ratio(weights.get(parent, 0.0)) for parent in self.blended_parents}
        return dict.fromkeys(self.anatomy.slots, ratios)

    def fixed_ratios(self) -> Ratios:
        """The ratios that the recipe fixes; weight 1 for every parent where it fixes none."""
        return self.fixed or self.uniform(dict.fromkeys(self.blended_parents, 1.0))

    def read(self, parent: str, slot: Slot) -> Tensor:
        """What of a parent is blended in a slot, new: its tensor, or of embeddings and head the shared tokens' rows."""
        tensor = self.checkpoints[parent].read(self.anatomy.keys[parent][slot])
        return self.vocabulary.gather(parent, slot, tensor)

    @property
    def tower_bytes(self) -> int:
        """The bytes of all parents' language towers."""
        return self.bytes_of(self.anatomy.slots)

    def bytes_of(self, slots: Iterable[Slot]) -> int:
        """The bytes of some slots in the files of all parents whose language towers are read."""
        wanted = list(slots)
        return sum(
            self.checkpoints[name].tensors[key].num_bytes
            for name in self.read_parents
            for key in {self.anatomy.keys[name][slot] for slot in wanted}
        )

    def buffer_bytes(self, slots: Iterable[Slot]) -> int:
        """The bytes of two buffers on a device, where slots are sent there one by one."""
        return 2 * max(self.bytes_of([slot]) for slot in slots)

    def written_keys(self, slot: Slot) -> list[str]:
        """The keys of the layout's files that hold a slot: two if a tied head repeats the embeddings."""
        repeated = self.anatomy.repeated_heads.get(self.layout) if slot == EMBEDDINGS else None
        return [self.anatomy.keys[self.layout][slot], *([repeated] if repeated else [])]


def make_plan(recipe: Recipe, *, has_weights: bool = True, trusts_code: bool = False) -> Plan:
    """Open the parents (headers only), pair their slots and lay out the search space.

    Args:
        recipe: The recipe.
        has_weights: Whether the weights of parents on the hub are fetched; without them nothing can be blended.
        trusts_code: Whether code that comes with the VLM may run.

    Raises:
        RecipeError: A guard asks for what the search's samples cannot give.
        EvalsetError: There is no such split, it has too few samples, or search and held-out data share pictures.
        CheckpointError: A parent cannot be opened.
        ParentsError: The parents do not fit.
        VlmMergeError: The recipe's depth or ratios do not fit the language tower.
    """
    if recipe.evalset:
        check_apart(recipe.evalset)
        if faults := guard_faults(recipe):
            raise faults_to_error(recipe.source, faults)
        recipe = with_objective(recipe)
    eyes = {VISION: recipe.parents.vision} if recipe.parents.vision else {}
    places = {"vlm": recipe.parents.vlm, "base": recipe.parents.base, **recipe.parents.llms, **eyes}
    open_parent = open_checkpoint if has_weights else open_headers
    checkpoints = {name: open_parent(where) for name, where in places.items()}
    anatomy = study(
        {name: checkpoint.shapes for name, checkpoint in checkpoints.items()},
        {name: checkpoint.says_tied for name, checkpoint in checkpoints.items()},
        blends_embeddings=recipe.blend.embeddings == "blend",
    )
    for name, checkpoint in checkpoints.items():
        for key in anatomy.keys[name].values():
            checkpoint.dtype(key)
    space, blended = make_space(recipe, anatomy.slots), ["vlm", *recipe.parents.llms]
    written = {name: ratio.model_dump() for name, ratio in (recipe.blend.ratios or {}).items()}
    fixed = fixed_ratios(anatomy.slots, blended, written) if written else None
    return Plan(recipe, checkpoints, anatomy, space, study_vocabulary(checkpoints, anatomy), fixed, trusts_code)


def make_space(recipe: Recipe, slots: Sequence[Slot]) -> SearchSpace:
    """Lay out the genes that the recipe's `blend` asks for.

    Raises:
        VlmMergeError: The recipe's depth does not fit the language tower.
    """
    blend, parents = recipe.blend, ["vlm", *recipe.parents.llms]
    parameters = METHODS[blend.method].parameters
    return build_space(slots, parents, blend.depth, blend.split, blend.ranges.model_dump(), parameters)


def with_objective(recipe: Recipe) -> Recipe:
    """The recipe with an objective: its own, or the default one for the kind of its search's samples.

    The default one has the default guards, unless the recipe has guards, if only `{}`; one's own has those alone.

    Raises:
        EvalsetError: There is no such split.
    """
    assert recipe.evalset
    score = recipe.score or Score()
    if score.objective:
        return recipe
    _, split = find_split(recipe.evalset.search.name, recipe.evalset.search.split)
    guards = Guards(**default_guards(split.kind, split.language)) if score.guards is None else score.guards
    chosen = {"objective": dict(DEFAULT_OBJECTIVES[split.kind]), "guards": guards}
    return recipe.model_copy(update={"score": score.model_copy(update=chosen)})


def guard_faults(recipe: Recipe) -> list[str]:
    """Fault lines for guards that the search's samples cannot be held to; none where there is no such split."""
    if not (recipe.evalset and recipe.score and recipe.score.guards):
        return []
    try:
        _, split = find_split(recipe.evalset.search.name, recipe.evalset.search.split)
    except VlmMergeError:  # told elsewhere
        return []
    if recipe.score.guards.japanese is None or split.language == "ja":
        return []
    asked = f"{recipe.evalset.search.name}:{recipe.evalset.search.split}"
    return [f"score.guards.japanese: the answers to {asked} are to be in `{split.language}`; wanted no such key"]
