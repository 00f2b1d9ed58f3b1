"""One run from options to model folder."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from distill import model_card, static_embeddings, student
from distill.losses import Mixture
from distill.objective import Collator, Objective
from distill.targets import targets
from distill.teachers import Array, Files, ModelTeacher, Teacher
from distill.text_dataset import Spooled, Texts, open_reader, spool
from fletching import cli, lineage, training_index
from fletching.encode import model as models
from fletching.options import EncodingOptions
from fletching.report import Report
from fletching.train import hardware, metrics_log, publish
from fletching.train.batch_order import BatchOrder, plan_batches
from fletching.train.distributed import process_group
from fletching.train.run_dir import ROWS, VECTORS, RunDir, checkpoint_step

SAMPLE = 2_000  # texts looked at for lengths
LOSSES = ("cosine", "similarity", "ranking", "mse", "kl")


class Job:
    """What a run stands on: texts, teachers' vectors, student, loss. Made once; `train` does the work."""

    def __init__(self, options: Any, report: Report, tool: cli.Tool, run_path: str) -> None:
        self.options, self.report, self.tool = options, report, tool
        self.beside = (
            None if options.cache or options.dry_run else f"{options.output.rstrip('/')}.cache"
        )
        torch.manual_seed(options.seed)  # a new projection is random
        path = os.path.join(run_path, ROWS)
        self.spooled: Spooled = process_group.broadcast(
            self._spool(path) if process_group.is_main() else None
        )  # type: ignore[assignment]
        self.texts = Texts(path)
        # The first process alone reads and asks the teachers; the others map what it wrote.
        self.teachers = (
            self._teachers(options.cache or self.beside) if process_group.is_main() else []
        )
        self.width: int = process_group.broadcast(
            sum(teacher.dimension for teacher in self.teachers)
        )
        self.student = (
            self._student()
        )  # before the teachers work for hours, since it may be refused
        self.targets = self._targets(os.path.join(run_path, VECTORS, "targets.f16"))
        self.order: BatchOrder = plan_batches(
            len(self.texts),
            batch=options.batch,
            seed=options.seed,
            epochs=options.epochs,
            steps=options.steps,
        )
        self.objective = self._objective()

    def _spool(self, path: str) -> Spooled:
        self.reader = open_reader(self.report, self.options.inputs, self.options.limit)
        return spool(self.reader, path, self.report)

    def _targets(self, path: str) -> np.ndarray:
        """Float16 (texts, dimension of all teachers), one file for all processes."""
        if process_group.is_main():
            targets(self.texts, self.teachers, self.options.teacher_weights, self.report, path)
        process_group.barrier()
        return np.memmap(path, np.float16, "r", shape=(len(self.texts), self.width))

    def _teachers(self, cache: str | None) -> list[Teacher]:
        options = self.options
        prompts = {"query": options.teacher_query_prompt, "document": options.teacher_doc_prompt}
        written = {role: prompt or "" for role, prompt in prompts.items()}
        found: list[Teacher] = []
        for name in options.teacher:
            if options.base_url:
                from distill.embedding_server import Server

                found.append(Server(name, options.base_url, options.api_key_env, written, cache))
            else:
                found.append(ModelTeacher(self._encoding(name, cache), self.report))
        for path in options.vectors:
            if os.path.isdir(path) or path.endswith(
                (".parquet", ".arrow", ".arrows", ".jsonl", ".jsonl.gz", ".jsonl.zst")
            ):
                found.append(Files(path, written, allow_extra=options.allow_extra))
            else:
                found.append(
                    Array(
                        path,
                        options.teacher_dim,
                        rows=self.spooled.rows,
                        one_a_row=self.spooled.one_a_row,
                    )
                )
        return found

    def _encoding(self, name: str, cache: str | None) -> EncodingOptions:
        options = self.options
        return EncodingOptions(
            model=name,
            query_prompt=options.teacher_query_prompt,
            doc_prompt=options.teacher_doc_prompt,
            query_length=options.teacher_length,
            doc_length=options.teacher_length,
            batch_tokens=options.batch_tokens,
            device=options.device,
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
            cache=cache,
        )

    def _student(self) -> student.Student:
        options = self.options
        base = models.load(
            options.model or options.teacher[0], trust_remote_code=options.trust_remote_code
        )
        if options.student == "static":
            student.check_transformer(base, options.model or options.teacher[0])
            parts = ([text.text for text in part] for part in self.texts.parts())
            base, axes = static_embeddings.static_model(
                base.float(), parts, options.student_dim, self.report
            )
            return student.prepare(options, base, self.width, is_static=True, aligned=axes)
        if options.student_layers:
            student.drop_layers(base, options.student_layers)
        found = student.prepare(options, base, self.width, is_static=False)
        hardware.set_dropout(found.model, options.dropout)
        if found.device.type == "cpu":
            hardware.prepare_cpu(found.model)
        return found

    def _objective(self) -> Objective:
        options, learner = self.options, self.student
        learner.model.to(learner.device)
        weights = {name: getattr(options, f"{name}_weight") for name in LOSSES}
        return Objective(
            learner,
            Mixture(weights, options.matryoshka, options.margin, options.temperature),
            batch_tokens=options.batch_tokens or (1024 if learner.device.type == "cpu" else 32_768),
            keep_tokens=0
            if learner.is_static
            else hardware.tokens_that_fit(options.activations, learner.model),
        )

    @property
    def manifest(self) -> dict[str, Any]:
        """What must be equal for a run to go on from a checkpoint."""
        return {
            "version": self.tool.version,
            "data": self.spooled.digest,
            "teachers": {
                str(number): teacher.identity for number, teacher in enumerate(self.teachers)
            },
            "student": self.student.fingerprint,
            "options": {
                name: value
                for name, value in cli.row_options(self.options).items()
                if name != "model"
            },
        }

    @property
    def _settings(self) -> dict[str, Any]:
        """What decides the student, as the lineage shows it: no path, the same on every machine."""
        found = self.manifest
        return found["options"] | {
            "teachers": list(found["teachers"].values()),
            "student_fingerprint": found["student"],
        }

    def describe(self) -> list[str]:
        """Notes of the plan and of what training will see of the data."""
        order, texts = self.order, self.texts
        seen = order.steps / order.epoch_steps
        notes = [
            f"{len(texts):,} texts, teacher vectors of {self.width} dimensions, student of {self.student.model.get_embedding_dimension()}",
            f"{order.steps:,} steps of up to {order.batch:,} texts, {order.epoch_steps:,} an epoch; each text seen {seen:.3g} times",
        ]
        chosen = [
            texts[int(number)] for number in np.linspace(0, len(texts) - 1, min(SAMPLE, len(texts)))
        ]
        limits = np.array([self.student.lengths[text.role] for text in chosen])
        tokens = self.student.tokenize(
            [text.prompted(self.student.prompts) for text in chosen], [1 << 20] * len(chosen)
        )
        counts = np.array([len(ids) for ids in tokens])
        cut = float((counts > limits).mean())
        notes.append(
            f"tokens: mean {counts.mean():.0f}, median {np.median(counts):.0f}, longest {counts.max():,}; {cut:.1%} of texts cut"
        )
        self.report.measures |= {
            "texts": len(texts),
            "steps": order.steps,
            "tokens_mean": float(counts.mean()),
            "cut": cut,
        }
        for note in notes:
            self.report.note(note)
        return notes

    def dry_run(self) -> None:
        """Notes, and the time that one real batch takes, for all steps."""
        self.describe()
        batch = Collator(self.texts, self.targets, self.student)(self.order.epoch(0)[0].tolist())
        moved = {name: tensor.to(self.student.device) for name, tensor in batch.items()}
        times = []
        for _ in range(2):
            start = time.monotonic()
            self.objective(**moved).backward()
            times.append(time.monotonic() - start)
        self.report.measures["estimated_seconds"] = whole = min(times) * self.order.steps
        self.report.note(f"about {whole / 60:.1f} minutes on {self.student.device}")

    def train(self, folder: RunDir, newest: str | None) -> None:
        """Train, from the checkpoint `newest` where there is one, and publish the model."""
        step = checkpoint_step(newest)
        if newest:
            self.report.note(f"going on from step {step:,} of {self.order.steps:,}")
        else:
            self.describe()
        log = folder.path_to("measures.jsonl")
        with self.report.progress("training", self.order.steps - step, "steps") as progress:
            watching = metrics_log.MetricsLog(log, progress, step)
            self._trainer(folder, watching).train(resume_from_checkpoint=newest)
        watching.close()
        if process_group.is_main():
            self._finish(folder, log)
            if self.beside:
                shutil.rmtree(self.beside, ignore_errors=True)

    def _trainer(self, folder: RunDir, watching: metrics_log.MetricsLog) -> Any:
        hardware.silence_libraries()
        from distill.trainer import DistillTrainer
        from fletching.train.trainer import IntervalCallback, TrainingSetup, training_arguments

        options, steps, is_static = self.options, self.order.steps, self.student.is_static
        setup = TrainingSetup(
            rows=range(len(self.texts)),
            plan=self.order,
            collate=Collator(self.texts, self.targets, self.student),
            run_dir=folder,
            metrics_log=watching,
            intervals=IntervalCallback.from_options(options, steps, evaluates=False),
            row_names=lambda rows: [self.texts[row].id for row in rows],
        )
        lr = options.lr or (5e-3 if is_static else 1e-4)
        # The rows of tokens that no text has would only shrink.
        decay = (
            0.01 if options.weight_decay is None and not is_static else options.weight_decay or 0.0
        )
        args = training_arguments(
            options,
            steps=steps,
            folder=folder.path,
            device=self.student.device,
            learning_rate=lr,
            weight_decay=decay,
        )
        made = DistillTrainer(setup, objective=self.objective, args=args)
        if process_group.world_size() > 1:
            torch.manual_seed(
                options.seed * process_group.world_size() + process_group.rank()
            )  # other dropout on other ranks
        return made

    def _finish(self, folder: RunDir, log: str) -> None:
        """The model folder, complete, in its place."""
        built = folder.path_to("model")
        os.makedirs(built, exist_ok=True)
        dimension = student.save(
            self.student, built, trust_remote_code=self.options.trust_remote_code
        )
        step = lineage.step(self.tool.name, self.tool.version, self._settings, self.reader.steps)
        name = os.path.basename(folder.output)
        publication = publish.Publication(
            run_dir=folder,
            folder=built,
            report=self.report,
            tool=self.tool,
            settings=self._settings,
        )
        publication.write_measures(log, [self.reader])
        end = {"texts": len(self.texts), "digest": self.spooled.digest, "steps": self.order.steps}
        text = model_card.card(
            name=name,
            origin=self._origin(),
            dimension=dimension,
            dims=self.options.matryoshka,
            step=step,
            plan=f"{len(self.texts):,} texts in {self.order.steps:,} batches of up to {self.order.batch:,}",
            prompts=self.student.model.prompts,
            loss=describe_loss(self.options),
            losses=first_and_last(log),
        )
        reached = self.order.row_counts() > 0
        self._keys(reached).save(built)
        publication.publish(
            lineage_node=step,
            end=end,
            card=text,
            rows=len(self.texts),
            rows_trained=int(reached.sum()),
        )

    def _keys(self, reached: np.ndarray) -> training_index.TrainingIndex:
        """The keys of the texts that training reached (texts,), and of those that base and teachers were trained on."""
        found = training_index.TrainingIndex()
        for start, batch in zip(self.texts.starts, self.texts.batches):
            found.add(batch["text"].filter(pa.array(reached[start : start + len(batch)])))
        for name in {self.options.model, *self.options.teacher} - {None}:
            if before := training_index.load(name):
                found.include(before)
        return found

    def _origin(self) -> str:
        teachers = ", ".join(
            f"`{teacher.name.rstrip('/').rsplit('/', 1)[-1]}`" for teacher in self.teachers
        )
        kind = "a static token table" if self.student.is_static else "a transformer"
        layers = (
            f" of {self.options.student_layers} of its layers"
            if self.options.student_layers
            else ""
        )
        return f"{kind}{layers} that learned the vectors of {teachers}"


def describe_loss(options: Any) -> str:
    """
    >>> import types
    >>> off = dict.fromkeys((f"{name}_weight" for name in LOSSES), 0.0)
    >>> describe_loss(types.SimpleNamespace(**off | {"cosine_weight": 10.0, "ranking_weight": 2.5}, margin=0.015, matryoshka=()))
    '10 cosine + 2.5 ranking (margin 0.015)'
    """
    parts = [
        f"{getattr(options, f'{name}_weight'):g} {name}"
        for name in LOSSES
        if getattr(options, f"{name}_weight")
    ]
    told = " + ".join(parts) + (f" (margin {options.margin:g})" if options.ranking_weight else "")
    dims = ", ".join(map(str, options.matryoshka))
    return told + (
        f"; those of similarities are means over the first {dims} dimensions" if dims else ""
    )


def first_and_last(log: str) -> list[tuple[str, float, float]]:
    """(loss, mean of the first tenth of the steps, of the last tenth)."""
    values: dict[str, list[float]] = {}
    for line in metrics_log.read(log):
        if line["name"].startswith("loss"):
            values.setdefault(line["name"].removeprefix("loss_"), []).append(line["value"])
    tenth = {name: -(-len(found) // 10) for name, found in values.items()}
    return [
        (name, float(np.mean(found[: tenth[name]])), float(np.mean(found[-tenth[name] :])))
        for name, found in values.items()
    ]
