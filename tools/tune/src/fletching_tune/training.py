"""Command lines that measure, mine, train and blend."""

from __future__ import annotations

from collections.abc import Sequence

from fletching.options import ModelOptions, describe
from fletching_tune.candidates import Recipe
from fletching_tune.options import Options, Stage
from fletching_tune.steps.step import Step, arguments, listed
from fletching_tune.training_shape import LARGEST_BATCH
from fletching_tune.work_folder import WorkFolder

PROBED_UPDATES = 100
KEPT_SHARE = "0.98"  # of the positives, by cosine: the rest is looked at in rejects.parquet
MINED = ("--negatives", "3", "--range", "1-30")
# The best of both searches, false negatives included: they are scored, not labelled.
HYBRID = (
    *("--bm25", "fused", "--scores", "hybrid", "--negatives", "64", "--range", "1-64"),
    *("--max-ratio", "0", "--near-copy", "1.01"),
)


def model_words(options: Options, *, dtype: str | None = None) -> list[str]:
    """The options of models that all programs take, but the model itself. dtype: a default."""
    words: list[str] = []
    for name, option in describe(ModelOptions).items():
        value = getattr(options, name)
        if name == "model" or value == option.default:
            continue
        words += [option.flag] if value is True else [option.flag, str(value)]
    if dtype is not None and options.dtype == "auto":
        words += ["--dtype", dtype]
    return words


def _base(options: Options) -> str:
    return str(options.model)


class TrainingCommands:
    """The command lines of one run's training.

    eval_corpus: files of `texts` in which dev is ranked.
    """

    def __init__(self, options: Options, work: WorkFolder, *, eval_corpus: Sequence[str]) -> None:
        self.options = options
        self.work = work
        self.eval_corpus = tuple(eval_corpus)
        self.base = _base(options)

    def probe(self) -> Step:
        """Measure the rate of training, which also loads the base."""
        summary = self.work.summary("probe")
        words = ("--dry-run", "--steps", str(PROBED_UPDATES), "--batch", str(LARGEST_BATCH))
        return Step(
            name="probe",
            stage="plan",
            argv=(
                *("contrast-train", self.work.split("train"), "--model", self.base),
                *(*words, "--dropout", "0", *model_words(self.options)),
                *("--seed", str(self.options.seed), "--json-summary", summary),
            ),
            inputs=(self.work.split("train"),),
            models=(self.base,),
            outputs=(summary,),
        )

    def filtering(self) -> Step:
        """Drop the pairs that fit worst; they are kept for the report."""
        kept, rejects = self.work.file("kept.parquet"), self.work.file("rejects.parquet")
        summary = self.work.summary("filter")
        return Step(
            name="filter",
            stage="mine",
            argv=(
                *("simfilter", self.work.split("train"), "--model", self.base),
                *("--keep-top", KEPT_SHARE, "--rejects", rejects, "-o", kept),
                *("--cache", self.work.cache, *model_words(self.options)),
                *("--json-summary", summary),
            ),
            inputs=(self.work.split("train"),),
            models=(self.base,),
            outputs=(kept, rejects, summary),
        )

    def mining(self) -> Step:
        """Hard negatives for the rows that were kept."""
        mined, summary = self.work.file("mined.parquet"), self.work.summary("mine")
        corpus = self.options.corpus  # held-out documents are no negatives: they are not seen
        return Step(
            name="mine",
            stage="mine",
            argv=(
                *("hnmine", self.work.file("kept.parquet"), "--model", self.base, *MINED),
                *("--keep-neg", *listed("--corpus", corpus), "-o", mined),
                *("--cache", self.work.cache, *model_words(self.options)),
                *("--seed", str(self.options.seed), "--json-summary", summary),
            ),
            inputs=(self.work.file("kept.parquet"), *corpus),
            models=(self.base,),
            outputs=(mined, summary),
        )

    def hybrid_lists(self, rows: str, documents: Sequence[str]) -> Step:
        """For each pair of a file the best texts of a search by words and vectors, with scores.

        documents: files of `texts` that are searched beside the positives of the pairs.
        """
        out, summary = self.work.file("hybrid.parquet"), self.work.summary("hybrid")
        corpus = [*documents, *self.options.corpus]
        return Step(
            name="hybrid",
            stage="mine",
            argv=(
                *("hnmine", rows, "--model", self.base, *HYBRID),
                *(*listed("--corpus", corpus), "-o", out, "--cache", self.work.cache),
                *(*model_words(self.options), "--seed", str(self.options.seed)),
                *("--json-summary", summary),
            ),
            inputs=(rows, *corpus),
            models=(self.base,),
            outputs=(out, summary),
        )

    def fixed_vectors(self) -> Step:
        """The base's vectors of all documents of the lists, from its cache."""
        rows, out = self.work.file("hybrid.parquet"), self.work.document_vectors
        return Step(
            name="hybrid-vectors",
            stage="mine",
            argv=(
                *("texts2vectors", rows, "--model", self.base, "-o", out),
                *("--cache", self.work.cache, *model_words(self.options)),
            ),
            inputs=(rows,),
            models=(self.base,),
            outputs=(out,),
        )

    def training(
        self, recipe: Recipe, *, rows: str, updates: int, batch: int, is_evaluated: bool
    ) -> Step:
        """Train one recipe for so many updates."""
        return self.named_training(
            f"{recipe.name}-{updates}",
            recipe,
            rows=rows,
            updates=updates,
            batch=batch,
            is_evaluated=is_evaluated,
        )

    def named_training(
        self,
        name: str,
        recipe: Recipe,
        *,
        rows: str,
        updates: int,
        batch: int,
        seed: int = 0,
        is_evaluated: bool = True,
    ) -> Step:
        """The same under another name, of a part of the rows or with another seed.

        seed: is added to --seed. is_evaluated: on dev, which chooses the step.
        """
        out, summary = self.work.model(name), self.work.summary(name)
        flags = [self._filled_in(word) for word in recipe.flags]
        vectors = [self.work.document_vectors] if recipe.reads_document_vectors else []
        held_out = (self.work.split("dev"), *self.eval_corpus) if is_evaluated else ()
        return Step(
            name=f"train-{name}",
            stage="train",
            argv=(
                *("contrast-train", rows, "--model", self.base, *flags),
                *("--batch", str(batch), "--steps", str(updates), "--dropout", "0"),
                *(self._evaluation_words(updates) if is_evaluated else ()),
                *(*model_words(self.options), "--seed", str(self.options.seed + seed)),
                *("--json-summary", summary, "-o", out),
            ),
            inputs=(rows, *vectors, *held_out),
            models=(self.base,),
            outputs=(out, summary),
            leftovers=(out + ".run",),
        )

    def _filled_in(self, flag: str) -> str:
        vectors = self.work.document_vectors
        return flag.replace("{base}", self.base).replace("{document-vectors}", vectors)

    def _evaluation_words(self, updates: int) -> tuple[str, ...]:
        """The best step by dev is kept; with documents the last one.

        Dev queries are generated there, and the best step by them may be one of a high rate, which
        is no good part of a mean of seeds.
        """
        rows = ("--eval", self.work.split("dev"), *listed("--eval-corpus", self.eval_corpus))
        if self.options.documents:
            return (*rows, "--eval-every", str(updates))
        return (*rows, "--eval-every", str(-(-updates // 3)), "--patience", "2")

    def blend(self, name: str, models: Sequence[str], weights: Sequence[float]) -> Step:
        """The weighted mean of the weights of models."""
        out = self.work.model(name)
        shares = ",".join(f"{weight:g}" for weight in weights)
        trust = ("--trust-remote-code",) if self.options.trust_remote_code else ()
        return Step(
            name=f"blend-{name}",
            stage="choose",
            argv=("blend-models", *models, "--weights", shares, *trust, "-o", out),
            models=tuple(models),
            outputs=(out,),
        )

    def sample(self, files: Sequence[str], count: int, *, out: str, stage: Stage) -> Step:
        """So many rows of files, drawn at random, in their order."""
        return Step(
            name="sample-" + out.rsplit("/", 1)[-1].removesuffix(".parquet"),
            stage=stage,
            argv=(
                *("arrowcat", *arguments(files), "--sample", str(count)),
                *("--seed", str(self.options.seed), "-o", out),
            ),
            inputs=tuple(files),
            outputs=(out,),
        )
