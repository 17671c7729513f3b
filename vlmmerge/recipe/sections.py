"""The sections of a recipe: every key, its default, and why that is the default.

Knows nothing of files, nor of what one key cannot tell alone (`reading.py`).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from vlmmerge.recipe.faults import Sections
from vlmmerge.recipe.values import (
    FORMS,
    AtLeast0,
    AtLeast1,
    BatchTokens,
    CheckedDepth,
    Density,
    DensityRange,
    Epsilon,
    EpsilonRange,
    Gamma,
    GammaRange,
    LengthRatio,
    Percentage,
    Population,
    Range,
    Rescale,
    Share,
    Split,
    Texts,
    Url,
    Weight,
)


class Section(BaseModel):
    # strict: `seed: "3"` or `samples: 64.0` is a slip to tell, not to guess at. A key unknown here is always a fault.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, serialize_by_alias=True)


class Parents(Section):
    """The checkpoints that go in, each a hub id or the absolute path of a local folder."""

    vlm: str = Field(description="a folder or hub id: vision tower, projector, processor and export layout")
    base: str = Field(description="a folder or hub id: the common ancestor of the language towers")
    llms: dict[str, str] = Field(min_length=1, description="one or more names, each with a folder or hub id")
    # None: the vlm's own. Another VLM, with a language tower of the same shapes, gives its vision tower, projector,
    # processor and export layout in its place.
    vision: str | None = None


class Ranges(Section):
    """What a gene's 0 and 1 stand for."""

    # Weights are not normalised, and the best published ones sum to about 2 over two parents, so 1 would be too low.
    weight: Range = (0.0, 1.5)
    # Density 0 keeps nothing and DARE divides by it; 0.1 already rescales what is kept tenfold.
    density: DensityRange = (0.1, 1.0)
    # Outliers are few by their nature: from none to five times the field's usual hundredth.
    gamma: GammaRange = (0.0, 0.05)
    # From DARE, which knows no magnitudes, to the field's default.
    epsilon: EpsilonRange = (0.0, 0.15)


class FixedRatio(Section):
    """One parent's ratios, each a number; a list: control points over depth, first = first layer, last = last layer; or
    a mapping to either of these by role (q_proj, ...), part (attention, mlp, embeddings, head) and default."""

    weight: Weight = Field(description=f"a number, {FORMS}")
    density: Density = 1.0  # nothing is dropped unless the recipe says so
    gamma: Gamma = 0.01  # mergekit's; of breadcrumbs only, and of them only where something is dropped
    epsilon: Epsilon = 0.15  # mergekit's; of della only, and of it only where something is dropped


class Blend(Section):
    """How the language towers are blended, and how finely."""

    method: Literal[
        "linear",
        "slerp",
        "task_arithmetic",
        "ties",
        "dare",
        "dare_ties",
        "breadcrumbs",
        "breadcrumbs_ties",
        "della",
        "della_ties",
        "model_stock",
        "sce",
    ] = Field(description="the name of a blending method")
    depth: CheckedDepth = "global"  # the fewest genes, so that a short search gets somewhere
    split: Split = None  # one gene for attention and mlp together: half as many to find
    # Rows pair by token; `vlm` keeps the VLM's embeddings and head, for parents whose tokenizers cut texts otherwise.
    embeddings: Literal["blend", "vlm"] = "blend"
    ranges: Ranges = Ranges()
    ratios: dict[str, FixedRatio] | None = None  # a search starts from `search.start`; only `vlmmerge blend` needs them
    # The parents' towers: on the model's device while they leave room there, else in host memory and sent slot by slot.
    residency: Literal["auto", "device", "host"] = "auto"
    seed: AtLeast0 = 0  # the random masks; a fixed number, so that the recipe alone makes the same weights again
    # Each method's own: `linear` divides by the sum of the weights; elsewhere the published optimum sums to about 2.
    normalize: bool | None = None
    rescale: Rescale = None  # as each paper: dare and della divide by what they keep, no other method rescales
    lambda_: float = Field(default=1.0, alias="lambda")  # the weights say it already; for recipes from elsewhere
    majority_sign_method: Literal["total", "frequency"] = "total"  # the paper's of TIES
    majority_sign_tie: Literal["drop", "positive"] = "drop"  # favours no sign; mergekit and PEFT take the positive
    select_topk: Annotated[float, Field(gt=0, le=1)] = 1.0  # nothing is left out unless the recipe says so
    filter_wise: bool = False  # one interpolation a slot, as mergekit's default


class EvalsetChoice(Section):
    """Samples to score on."""

    name: str = Field(description="the name of an evalset (`vlmmerge evalsets` lists them), or a path")
    split: str = Field(description="a split of that evalset")
    samples: AtLeast1 | None = None  # all of them: fewer widen the interval, which only the user can want


class Evalset(Section):
    """What the search may see, and what it never sees."""

    search: EvalsetChoice = Field(description="{name, split} to score candidates on")
    held_out: EvalsetChoice = Field(description="{name, split} for the headline number, never seen by the search")
    # No finals: the search's own score decides. They are worth it where the search sees few samples: the best of many
    # candidates on those is partly luck, and more samples show whose score lasts.
    finals: EvalsetChoice | None = None
    # No retention: it takes a set in the language that the VLM parent speaks, which no recipe says. With one, every
    # held-out blend is asked its questions as they stand, without `generate.question` and `generate.system`.
    retention: EvalsetChoice | None = None

    @property
    def choices(self) -> dict[str, EvalsetChoice]:
        """Those that are given, by key."""
        return {name: choice for name, choice in self if choice is not None}


# What a protocol sets; the recipe's own keys come before it.
# Source of evovlm-jp: Akiba 2024, https://arxiv.org/abs/2403.13187, and the code published with it.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "evovlm-jp": {
        "system": "あなたは役立つ、偏見がなく、検閲されていないアシスタントです。"
        "与えられた画像を下に、質問に答えてください。",
        "max_new_tokens": 512,
        "beams": 5,
        "repetition_penalty": 1.5,
    },
}


class Generate(Section):
    """How a candidate is asked."""

    # The fastest, and what most evaluations do. `evovlm-jp`: as the published scores were made.
    protocol: Literal["greedy", "evovlm-jp"] = "greedy"
    question: str | None = None  # each sample's own question
    system: str | None = None  # whatever the parent's chat template does by itself
    max_new_tokens: AtLeast1 = 64  # room for one or two Japanese sentences, as captions and short answers are
    beams: AtLeast1 = 1  # greedy: five beams take five times the work
    # None: what a model says is its own. This is not the checkpoint's, so that all models are asked the same way.
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    stop: Texts = ()  # an answer ends where the model ends it
    # Tokens that are worked on at once, answers at their longest; found out on the machine, for it never moves a score.
    batch_tokens: BatchTokens = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # as the vlm parent was saved, since that ships
    device: str = "auto"  # the GPU where there is one
    # The fastest that is installed and fits; it is told in the run's header, for scores may differ by a rounding.
    attention: Literal["auto", "flash_attention_2", "flash_attention_3", "flash_attention_4", "sdpa", "eager"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _follow_protocol(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("protocol"), str):
            return given
        return {**PROTOCOLS.get(given["protocol"], {}), **given}


class Judge(Section):
    """Who gives the marks of `judge` and `judge_heron`; the key comes from the environment: OPENAI_API_KEY."""

    url: Url = Field(description="an OpenAI-compatible endpoint, such as http://localhost:8000/v1")
    model: str = Field(description="the name of a model there")
    sends_images: bool = False  # as both protocols; not every judge can see, and pictures are most of the cost


class Guards(Section):
    """What answers must keep to, or the candidate's score is turned down (the rule: `vlmmerge/score/guards.py`)."""

    japanese: Percentage | None = None  # the least share of answers in Japanese
    length_ratio: LengthRatio | None = None  # the longest answer, in lengths of the nearest reference
    repetition: Share | None = None  # the largest share of an answer that it may have said before
    # The least share of the score that needs the pictures. Questions that no other sample is asked are asked once more
    # with another picture, which takes up to twice the time; of captions all answers are known.
    grounding: Share | None = None


class Score(Section):
    """What is optimised, what is shown beside it, and what is needed for it."""

    # By the kind of the search's samples; what is taken, and why, is told in `vlmmerge/score/defaults.py`.
    objective: Annotated[dict[str, float], Field(min_length=1)] | None = None
    guards: Guards | None = None  # an objective of one's own has none; the default ones have theirs
    report: tuple[str, ...] = ()  # nothing beside the objective's own metrics
    # What the published scores were made with. `characters` needs no dictionary, and its numbers are others.
    segmenter: Literal["unidic-lite", "ipadic", "sudachi", "sudachi-a", "sudachi-b", "sudachi-c", "characters"] = (
        "unidic-lite"
    )
    clip: str | None = None  # none: gigabytes that only `clipscore` needs, and which one reads Japanese best changes
    judge: Judge | None = None  # nobody: it costs money, and what it is shown leaves the machine

    @property
    def weights(self) -> dict[str, float]:
        """The objective, which a plan's recipe always has."""
        assert self.objective, "make_plan fills it in"
        return self.objective

    @property
    def limits(self) -> dict[str, float]:
        """The guards that are given, by name."""
        return {name: limit for name, limit in self.guards or () if limit is not None}


class Search(Section):
    """The evolution. Source of population, start and sigma: Akiba 2024, https://arxiv.org/abs/2403.13187"""

    algorithm: Literal["cmaes"] = "cmaes"  # the paper's; it learns how genes depend on each other and needs no tuning
    evaluations: AtLeast1 = 400  # 50 generations of the 8 candidates for 4 genes; the paper: 1000, many genes
    population: Population = "auto"  # 4 + floor(3 ln genes), the paper's
    start: Annotated[float, Field(ge=0, le=1)] = 0.5  # the middle of every range, the paper's
    sigma: Annotated[float, Field(gt=0)] = 1 / 6  # the paper's: from the middle, three sigma reach either end
    seed: AtLeast0 = 0  # a fixed number, so that a run can be repeated and resumed
    grid: AtLeast0 = 0  # no control; N scores N uniform weights for each parent, all combinations, before the search
    finalists: AtLeast1 = 8  # how many go to `evalset.finals`, where it is given: a generation's worth
    actors: AtLeast0 = 0  # in this process; each actor holds a model of its own, so memory decides how many fit


class Recipe(Section):
    """A whole recipe: resolved, checked and frozen."""

    parents: Parents = Field(description="vlm, base and llms")
    blend: Blend = Field(description="method and, if wanted, depth, split, embeddings, ranges, ratios and seed")
    evalset: Evalset | None = None  # `vlmmerge blend` scores nothing
    generate: Generate = Generate()
    score: Score | None = None  # as evalset; `evolve` takes the default objective
    search: Search = Search()
    _source: Path = PrivateAttr(Path())
    _written_parents: dict[str, Any] | None = PrivateAttr(None)
    _written_evalsets: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def evalset_names(self) -> list[str]:
        """The names, or paths, of the evalsets that it takes samples of."""
        return [choice.name for choice in self.evalset.choices.values()] if self.evalset else []

    @property
    def source(self) -> Path:
        """Absolute path of the recipe file."""
        return self._source


_SUM = ("normalize", "lambda")
_ELECTION = ("majority_sign_method", "majority_sign_tie")
# The options that each method uses, as its line in `blend.METHODS` says, which torch would have to be loaded to read.
METHOD_OPTIONS: dict[str, tuple[str, ...]] = {
    "linear": ("normalize",),
    "slerp": (),
    "task_arithmetic": _SUM,
    "ties": (*_SUM, "rescale", *_ELECTION),
    "dare": (*_SUM, "rescale"),
    "dare_ties": (*_SUM, "rescale", *_ELECTION),
    "breadcrumbs": (*_SUM, "rescale"),
    "breadcrumbs_ties": (*_SUM, "rescale", *_ELECTION),
    "della": (*_SUM, "rescale"),
    "della_ties": (*_SUM, "rescale", *_ELECTION),
    "model_stock": ("filter_wise",),
    "sce": ("select_topk", "majority_sign_tie"),
}
METHODS_OF_TWO = ("slerp",)
METHODS_WITHOUT_RATIOS = ("model_stock",)


# Where each section stands; `*` is any name.
SECTIONS: Sections = {
    (): Recipe,
    ("parents",): Parents,
    ("blend",): Blend,
    ("blend", "ranges"): Ranges,
    ("blend", "ratios", "*"): FixedRatio,
    ("evalset",): Evalset,
    ("evalset", "search"): EvalsetChoice,
    ("evalset", "held_out"): EvalsetChoice,
    ("evalset", "finals"): EvalsetChoice,
    ("evalset", "retention"): EvalsetChoice,
    ("generate",): Generate,
    ("score",): Score,
    ("score", "guards"): Guards,
    ("score", "judge"): Judge,
    ("search",): Search,
}
