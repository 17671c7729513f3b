"""What a run came to: held-out scores side by side, the differences, and answers before and after.

Knows a plan and its journal's records. Does not know models: answers are scored again from the journal.
"""

from collections.abc import Mapping
from typing import Any

from vlmmerge.evalsets import Sample, load
from vlmmerge.evaluate import retention_metrics
from vlmmerge.exam import make_scorer, settings_of
from vlmmerge.journal import Record
from vlmmerge.plan import Plan
from vlmmerge.score import paired_difference

NUM_SHOWN = 4


def metrics_of(plan: Plan) -> list[str]:
    """The objective's metrics, then those that are only reported."""
    assert plan.recipe.score
    return list(dict.fromkeys([*plan.recipe.score.weights, *plan.recipe.score.report]))


def held_out_rows(plan: Plan, records: list[Record]) -> list[dict[str, Any]]:
    """One row a blend, the best last: name, scores, and by how much the best is better in the objective's first metric.

    Returns:
        New dicts; `asked` is the signature of how was asked, empty where an old journal does not tell; `difference` is
        (value, low, high) of the paired bootstrap, None for the best itself. With guards there is `guarded`: the score
        that they leave, the objective, and what each found. With a retention there is `retention`: its name, its
        scores, and in each metric the `change` from the VLM parent, None for the parent.
    """
    held_out = last_held_out(records)
    metric = metrics_of(plan)[0]
    samples = held_out_samples(plan)
    assert plan.recipe.evalset and plan.recipe.score
    scorer = make_scorer(plan.recipe.evalset.held_out, samples, [metric], settings_of(plan.recipe.score))
    scores = {name: scorer.score(record["answers"], intervals=False)[metric] for name, record in held_out.items()}
    retained = _retention_rows(plan, held_out)
    return [
        {
            "name": name,
            "of": record["of"],
            "scores": record["scores"],
            "asked": record.get("asked", ""),
            "difference": None if name == "best" else paired_difference(scores["best"], scores[name]),
            **({"guarded": record["guarded"]} if "guarded" in record else {}),
            **({"retention": retained[name]} if retained else {}),
        }
        for name, record in held_out.items()
    ]


def _retention_rows(plan: Plan, held_out: Mapping[str, Record]) -> dict[str, dict[str, Any]]:
    """What each blend has kept of the VLM parent's own language, by the blend's name; none without a retention."""
    assert plan.recipe.evalset and plan.recipe.score
    if (choice := plan.recipe.evalset.retention) is None:
        return {}
    samples = load(choice.name, choice.split, choice.samples)
    scorer = make_scorer(choice, samples, retention_metrics(choice), settings_of(plan.recipe.score))
    scores = {name: scorer.score(record["retention"]["answers"], intervals=False) for name, record in held_out.items()}
    return {
        name: {
            "name": f"{choice.name}:{choice.split}",
            "scores": record["retention"]["scores"],
            "asked": record["retention"].get("asked", ""),
            "change": None
            if name == "vlm"
            else {metric: paired_difference(score, scores["vlm"][metric]) for metric, score in scores[name].items()},
        }
        for name, record in held_out.items()
    }


def sample_answers(plan: Plan, records: list[Record]) -> list[dict[str, Any]]:
    """A few held-out pictures, evenly spread, with what the VLM parent and the best candidate say."""
    held_out, samples = last_held_out(records), held_out_samples(plan)
    step = max(len(samples) // NUM_SHOWN, 1)
    return [
        {
            "id": samples[index].id,
            "reference": samples[index].references[0],
            "vlm": held_out["vlm"]["answers"][index],
            "best": held_out["best"]["answers"][index],
        }
        for index in range(0, len(samples), step)
    ][:NUM_SHOWN]


def held_out_samples(plan: Plan) -> list[Sample]:
    """The samples of the recipe's held-out split."""
    assert plan.recipe.evalset
    choice = plan.recipe.evalset.held_out
    return load(choice.name, choice.split, choice.samples)


def last_held_out(records: list[Record]) -> dict[str, Record]:
    """The newest held-out record of each name, `best` last: a prolonged run scores its new best again."""
    found = {record["name"]: record for record in records if record["kind"] == "held_out"}
    return {name: found[name] for name in sorted(found, key=lambda name: name == "best")}
