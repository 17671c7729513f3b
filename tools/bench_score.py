"""Measure scoring: `python tools/bench_score.py [--json]`.

Takes the 4000 answers of EvoVLM-JP-v1-7B that lie in ../shared/oracles, or else captions of ja-scenes with a word of
their own each, and prints

- all of them, and the first 64, scored by ROUGE-L, CIDEr-D, chrF and Japanese share once the references are prepared,
  without intervals (as a search scores) and with them (as `vlmmerge evaluate` does);
- ROUGE-L against `rouge_score` with the published Japanese tokenizer (emoji, neologdn, fugashi), for answers with one
  short reference and for captions with five: with the references prepared, with everything segmented, with intervals
  (`rouge_score` has a bootstrap too), and whether the values are the same. An answer has to be normalised and segmented
  by the same libraries whoever scores it; what that takes alone is the floor.

Answers are always fresh: whatever was segmented, and what the bootstrap drew, is forgotten before each repetition.
Seconds are medians, by the clock; the processor's own are beside them, for a machine that has other things to do, and
ratios are those of the processor's. A figure that was not reached is printed as such. emoji and rouge_score come with
the `dev` extra.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import emoji
import neologdn
import unidic_lite
from fugashi import GenericTagger
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.scoring import BootstrapAggregator

from vlmmerge.score import Scorer, Targets, prepare
from vlmmerge.score import statistics as bootstrap
from vlmmerge.score.rouge import rouge_words
from vlmmerge.score.segment import content_words, words

ORACLES = Path(__file__).parents[2] / "shared" / "oracles"
METRICS = ("rouge_l", "cider", "chrf", "japanese")
REPEATS = 7
NUM_CANDIDATE, NUM_THEIRS = 64, 1000
WANTED_SECONDS, WANTED_CANDIDATE_SECONDS, WANTED_FACTOR = 1.0, 0.030, 10.0


@dataclasses.dataclass(frozen=True)
class Answers:
    """Answers with their references, in the same order."""

    source: str
    answers: list[str]
    targets: Targets

    def first(self, number: int) -> "Answers":
        return Answers(self.source, self.answers[:number], Targets(self.targets.references[:number]))


@dataclasses.dataclass(frozen=True)
class Seconds:
    """How long something took: by the clock, and on the processor."""

    clock: float
    processor: float

    def __str__(self) -> str:
        return f"{1000 * self.clock:.1f} ms ({1000 * self.processor:.1f} ms of CPU)"


@dataclasses.dataclass(frozen=True)
class Figure:
    """One row of the table."""

    what: str
    wanted: str
    measured: str
    is_reached: bool
    value: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    is_json = parser.parse_args().json
    short, captions = read_answers(), read_captions()
    figures = []
    if not is_json:
        print(f"{short.source}; captions: {captions.source}; {os.cpu_count()} cores\n")
        print("| figure | wanted | measured | |\n|---|---|---|---|")
    for figure in [*measure_scoring(short), *measure_rouge(short), *measure_rouge(captions)]:
        figures.append(figure)
        if not is_json:
            mark = "reached" if figure.is_reached else "**not reached**"
            print(
                f"| {figure.what} | {figure.wanted} | {figure.measured} | {mark if figure.wanted else ''} |", flush=True
            )
    if is_json:
        print(json.dumps({"answers": short.source, "figures": [dataclasses.asdict(figure) for figure in figures]}))


def read_answers() -> Answers:
    """The oracle's answers to questions, or captions of ja-scenes where it is not there."""
    file = ORACLES / "evovlm-jp-v1-7b.ja-vg-vqa-500.json"
    if not file.exists():
        return read_scenes()
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    return Answers(file.stem, results["prediction"], Targets(tuple((text,) for text in results["answer"])))


def read_captions() -> Answers:
    """The oracle's captions with five references each, or captions of ja-scenes where it is not there."""
    if not (ORACLES / "coco-ja.candidates.json").exists():
        return read_scenes().first(NUM_THEIRS)
    references: dict[int, tuple[str, ...]] = {}
    for row in json.loads((ORACLES / "coco-ja.references.json").read_text(encoding="utf-8"))["annotations"]:
        references[row["image_id"]] = (*references.get(row["image_id"], ()), row["caption"])
    rows = json.loads((ORACLES / "coco-ja.candidates.json").read_text(encoding="utf-8"))
    targets = Targets(tuple(references[row["image_id"]] for row in rows))
    return Answers("coco-ja", [row["caption"] for row in rows], targets)


def read_scenes() -> Answers:
    """4000 samples of ja-scenes, over and over; each answer is the next sample's caption with a number of its own."""
    from vlmmerge.evalsets import load

    samples = load("ja-scenes", "search")
    rows = [samples[number % len(samples)].references for number in range(4000)]
    answers = [f"{number}枚目。{rows[number - 1][0]}" for number in range(4000)]
    return Answers("ja-scenes", answers, Targets(tuple(map(tuple, rows))))


def measure_scoring(all_answers: Answers) -> Iterator[Figure]:
    for given, wanted in ((all_answers, WANTED_SECONDS), (all_answers.first(NUM_CANDIDATE), WANTED_CANDIDATE_SECONDS)):
        scorer = prepare(METRICS, given.targets)
        for intervals in (False, True):
            seconds = median_seconds(partial(scorer.score, given.answers, intervals=intervals))
            what = f"{len(given.answers)} answers, {', '.join(METRICS)}, {'with' if intervals else 'without'} intervals"
            yield Figure(what, f"< {1000 * wanted:.0f} ms", str(seconds), seconds.clock < wanted, seconds.clock)


def measure_rouge(given: Answers) -> Iterator[Figure]:
    """Ours against rouge_score on answers of one kind."""
    given = given.first(NUM_THEIRS)
    scorer = prepare(["rouge_l"], given.targets)
    kind = f"ROUGE-L of {len(given.answers)} {given.source}"
    theirs = median_seconds(lambda: score_theirs(given))
    yield Figure(f"{kind}: rouge_score", "", str(theirs), True, theirs.clock)
    floor = median_seconds(lambda: [TOKENIZER.tokenize(answer) for answer in dict.fromkeys(given.answers)])
    yield Figure(f"{kind}: each answer's words alone", "", str(floor), True, floor.clock)
    ours = median_seconds(lambda: scorer.score(given.answers, intervals=False))
    yield compare(f"{kind}: references prepared", theirs, ours, WANTED_FACTOR)
    whole = median_seconds(lambda: prepare(["rouge_l"], given.targets).score(given.answers, intervals=False))
    yield compare(f"{kind}: everything segmented", theirs, whole)
    theirs_with = median_seconds(lambda: aggregate_theirs(given))
    yield compare(f"{kind}: with intervals", theirs_with, median_seconds(lambda: scorer.score(given.answers)))
    farthest = max_difference(scorer, given)
    yield Figure(f"{kind}: farthest from rouge_score", "< 1e-9", f"{farthest:.1e}", farthest < 1e-9, farthest)


def compare(what: str, theirs: Seconds, ours: Seconds, wanted: float = 0.0) -> Figure:
    """How many times as fast we are."""
    factor = theirs.processor / ours.processor
    shown = f">= {wanted:.0f} times as fast" if wanted else ""
    return Figure(what, shown, f"{ours}: {factor:.1f} times as fast", factor >= wanted, factor)


class PublishedTokenizer:
    """The published preprocessing as rouge_score takes it; it segments what it is given each time that it is given."""

    def __init__(self) -> None:
        self.parse = GenericTagger(f'-Owakati -d "{unidic_lite.DICDIR}" -r "{unidic_lite.DICDIR}/mecabrc"').parse

    def tokenize(self, text: str) -> list[str]:
        return self.parse(" ".join(neologdn.normalize(emoji.replace_emoji(text, "")).split())).split()


TOKENIZER = PublishedTokenizer()
THEIRS = RougeScorer(["rougeL"], tokenizer=TOKENIZER)


def score_theirs(given: Answers) -> list[dict]:
    pairs = zip(given.answers, given.targets.references, strict=True)
    return [THEIRS.score_multi(references, answer) for answer, references in pairs]


def aggregate_theirs(given: Answers) -> dict:
    aggregator = BootstrapAggregator()
    for score in score_theirs(given):
        aggregator.add_scores(score)
    return aggregator.aggregate()


def max_difference(scorer: Scorer, given: Answers) -> float:
    ours = scorer.score(given.answers, intervals=False)["rouge_l"].per_sample
    theirs = [100 * score["rougeL"].fmeasure for score in score_theirs(given)]
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True) if a is not None)


def median_seconds(work: Callable[[], object]) -> Seconds:
    measured = [measure_once(work) for _ in range(REPEATS)]
    return Seconds(*(statistics.median(column) for column in zip(*measured, strict=True)))


def measure_once(work: Callable[[], object]) -> tuple[float, float]:
    for cached in (words, content_words, rouge_words, bootstrap._resample_counts):
        cached.cache_clear()
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


if __name__ == "__main__":
    main()
