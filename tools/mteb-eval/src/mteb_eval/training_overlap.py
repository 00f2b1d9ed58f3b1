"""Which test texts a model may have seen in training, by run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mteb.abstasks.abstask import AbsTask

from fletching import training_index
from fletching.report import Report
from mteb_eval.data import known_training_sets
from mteb_eval.data.names import model_run
from mteb_eval.evaluation import ResultsByTask
from mteb_eval.options import Options
from mteb_eval.scoring import contamination
from mteb_eval.scoring.contamination import EvaluationTexts, Overlap

UNNAMED = ""  # the source of overlaps with --training, which names no model

Overlaps = dict[str, list[Overlap]]  # by the model whose training data they are of, or UNNAMED


def find_overlaps(
    options: Options, report: Report, *, models: Mapping[str, str], tasks: Sequence[AbsTask]
) -> Overlaps:
    """Test texts that a model may have seen, of each model whose training data are known."""
    indexes = {name: training_index.load(path) for name, path in models.items()}
    known = {name: index for name, index in indexes.items() if index is not None}
    if not known and not options.training:
        return {}
    groups: list[EvaluationTexts] = []
    for task in tasks:
        groups += contamination.collect_test_texts(task)
    overlaps = {
        name: contamination.compare_with_model(name, index, groups) for name, index in known.items()
    }
    if options.training:
        overlaps[UNNAMED] = contamination.compare_with_files(report, options.training, groups)
    return overlaps


def overlap_flags(overlaps: Overlaps) -> Iterator[tuple[str, str]]:
    """(task, flag) of each overlap that is worth one."""
    for group in overlaps.values():
        for overlap in group:
            flag = overlap.flag()
            if flag is not None:
                yield overlap.texts.label, flag


def recorded_flags(models: Mapping[str, str], tasks: Sequence[AbsTask]) -> list[tuple[str, str]]:
    """(task, flag) of what mteb has on record of a model's training sets."""
    return known_training_sets.training_set_flags(models.values(), tasks)


def overlaps_by_run(
    overlaps: Overlaps, models: Mapping[str, str], results: ResultsByTask, *, baseline: str
) -> Iterator[tuple[str, Overlap]]:
    """(run, overlap) of each run with the training data of its model.

    Those of --training count for all runs but the baseline; for the baseline too where it is the
    only model.
    """
    runs = dict.fromkeys(run for by_run in results.values() for run in by_run)
    for run in runs:
        model = model_of(run, models)
        if model is None:
            continue
        is_trained = run != baseline or len(models) == 1
        for source, group in overlaps.items():
            if source == model or (source == UNNAMED and is_trained):
                yield from ((run, overlap) for overlap in group)


def model_of(run: str, models: Iterable[str]) -> str | None:
    """The name of the model of a run (of `base@128 + BM25`, base); None of BM25."""
    variant = model_run(run)
    owners = [name for name in models if variant == name or variant.startswith(f"{name}@")]
    return max(owners, key=len, default=None)
