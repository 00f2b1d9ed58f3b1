"""One run from options to model folder."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import TYPE_CHECKING, Any

import torch

from contrast_train.data import loading, task_mixing
from contrast_train.data.batch_sampler import Plan
from contrast_train.data.collator import Collator
from contrast_train.data.dataset import Rows
from contrast_train.losses import registry
from contrast_train.model import backbone as backbones
from contrast_train.model import head
from contrast_train.model import weight_interpolation as blends
from contrast_train.model.backbone import Backbone
from contrast_train.publishing import model_card
from contrast_train.publishing import training_index as trained_on
from contrast_train.training import dry_run
from contrast_train.training.objective import Objective
from contrast_train.training.retrieval_evaluator import BEST_BY, HeldOut
from fletching import cli, lineage, training_index
from fletching.errors import InputError
from fletching.io import Reader
from fletching.options import EncodingOptions
from fletching.report import Report
from fletching.train import hardware, metrics_log, publish
from fletching.train.distributed import deepspeed_config, fsdp, process_group
from fletching.train.run_dir import ROWS, VECTORS, RunDir, checkpoint_step

if TYPE_CHECKING:
    from contrast_train.data.guide_embeddings import Guide


class Job:
    """What a run stands on: rows, plan, model, loss. Made once; `train` does the work."""

    def __init__(self, options: Any, report: Report, tool: cli.Tool, run_path: str) -> None:
        self.options, self.report, self.tool = options, report, tool
        self.spooled = os.path.join(run_path, ROWS)
        self.digest, self.loss = process_group.broadcast(
            self._spool() if process_group.is_main() else ("", "")
        )
        registry.check(options, self.loss)
        self.tasks = task_mixing.read(options.tasks) if options.tasks else {}
        self.rows: Rows = loading.opened(options, self.spooled, self.loss, self.tasks)
        self.plan: Plan = loading.planned(options, report, self.rows, self.tasks)
        self.backbone: Backbone = backbones.load(options)
        self.similarity = self._shape()
        self.row_prompts = task_mixing.merged_prompts(
            self.rows.prompts(), self.tasks, options.tasks
        )
        backbones.settle_prompts(self.backbone, self.row_prompts, options.query_prompt)
        model = self.backbone.model
        model.prompts = task_mixing.save_prompts(
            model.prompts, self.tasks, self.backbone.prompts["document"]
        )
        self.held_out = self._held_out() if options.eval else None
        if self.backbone.device.type == "cpu":
            hardware.prepare_cpu(self.backbone.model)
        if options.dropout is not None:
            hardware.set_dropout(self.backbone.model, options.dropout)
        if self.loss == "simcse" and not hardware.has_dropout(self.backbone.model):
            raise InputError(
                "the model drops no activations, so the two views of a text would be equal",
                "pass --dropout 0.1",
            )
        self.backbone.model.to(self.backbone.device)
        if options.fsdp:
            fsdp.shard(self.backbone.model, self.backbone.device)
        learned = (
            registry.temperature(options, self.loss, self.similarity)
            if options.learn_temperature
            else None
        )
        self.objective = Objective(
            self.backbone.model,
            registry.build(options, self.loss, self.similarity),
            batch_tokens=options.batch_tokens
            or (1024 if self.backbone.device.type == "cpu" else 32_768),
            keep_tokens=hardware.tokens_that_fit(options.activations, self.backbone.model),
            autocast=self.backbone.autocast,
            pad_id=self.backbone.tokenizer.pad_token_id or 0,
            left_padding=self.backbone.tokenizer.padding_side == "left",
            learned_temperature=learned,
        )

    def _shape(self) -> str:
        """Settle what stands behind the transformer; the similarity that is trained for."""
        similarity, unnormalised = head.settle(self.backbone.model, self.options)
        if unnormalised:
            self.report.note(
                "the model's normalising module is left out: --similarity dot compares vectors as they are"
            )
        return similarity

    def collator(self, guide: Guide | None = None) -> Collator:
        return self.backbone.collator(self.loss == "simcse", guide)

    def _guide(self, folder: RunDir) -> Guide | None:
        """The guide's vectors of all texts, from its cache after a stop."""
        if not self.options.guide:
            return None
        from contrast_train.data.guide_embeddings import Guide

        given = self.options
        encoding = EncodingOptions(
            model=given.guide, cache=folder.path_to(VECTORS), device=given.device, batch_tokens=given.batch_tokens,
            trust_remote_code=given.trust_remote_code,
        )  # fmt: skip
        if not process_group.is_main():
            process_group.barrier()  # the first process fills the cache, the others read it
        guide = Guide(self.rows, encoding, self.report)
        if process_group.is_main():
            process_group.barrier()
        return guide

    def _spool(self) -> tuple[str, str]:
        self.reader, digest, loss = loading.spooled(self.options, self.report, self.spooled)
        return digest, loss

    def _held_out(self) -> HeldOut:
        options, own = self.options, self.backbone.prompts
        reader = Reader(self.report, [options.eval], "examples", count=False)
        return HeldOut(
            reader,
            own["query"],
            options.eval,
            own["document"],
            self.rows.of_task,
            options.prompt_template,
        )

    @property
    def manifest(self) -> dict[str, Any]:
        """What must be equal for a run to go on from a checkpoint."""
        return {
            "version": self.tool.version,
            "data": self.digest,
            "model": self.backbone.fingerprint,
            "options": cli.row_options(self.options)
            | {"tasks": {name: dataclasses.asdict(task) for name, task in self.tasks.items()}},
        }

    @property
    def _settings(self) -> dict[str, Any]:
        """The options as the lineage shows them: no path, the same on every machine."""
        options = {
            name: value
            for name, value in cli.row_options(self.options).items()
            if name not in ("model", "eval", "guide", "tasks")
        }
        if self.tasks:
            options["tasks"] = {name: dataclasses.asdict(task) for name, task in self.tasks.items()}
        return (
            options
            | {"loss": self.loss}
            | {
                "model": {
                    "fingerprint": self.backbone.fingerprint,
                    "lengths": self.backbone.lengths,
                }
            }
        )

    @property
    def updates(self) -> int:
        """How often the weights change: once for --accumulate global batches."""
        return -(-self.plan.steps // self.options.accumulate)

    def dry_run(self) -> None:
        dry_run.describe(self.rows, self.plan, self.backbone, self.collator(), self.report)
        dry_run.estimate(
            self.rows, self.plan, self.backbone, self.collator(), self.objective, self.report
        )

    def measure(self) -> dict[str, float]:
        """Quality on the held-out examples, as the model stands."""
        assert self.held_out
        return self.held_out.measure(self._embed, self.similarity)

    def _embed(self, queries: list[str], documents: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.held_out
        tokens = self.backbone.tokenize(queries, self.backbone.lengths["query"])
        tokens += self.backbone.tokenize(documents, self.backbone.lengths["document"])
        pooled = (
            None
            if self.backbone.pools_prompts
            else [self.backbone.prompt_tokens(prompt) for prompt in self.held_out.prompts]
        )
        vectors = self.objective.embed_all(tokens, self.backbone.device, pooled)
        return vectors[: len(queries)], vectors[len(queries) :]

    def train(self, folder: RunDir, newest: str | None) -> None:
        """Train, from the checkpoint `newest` where there is one, and publish the model."""
        step = checkpoint_step(newest)
        if newest:
            self.report.note(f"going on from step {step:,} of {self.updates:,}")
        else:
            dry_run.describe(self.rows, self.plan, self.backbone, self.collator(), self.report)
        log = folder.path_to("measures.jsonl")
        with self.report.progress("training", self.updates - step, "steps") as progress:
            watching = metrics_log.MetricsLog(log, progress, step)
            if self.held_out and not newest:
                self._tell("before", base := self.measure())
                watching.log_evaluation(0, base)
            trainer = self._trainer(folder, watching, self._guide(folder))
            trainer.train(resume_from_checkpoint=newest)
        watching.close()
        best = trainer.load_best()
        blended = self._blend() if self.options.blend else None
        if self.options.fsdp or self.options.deepspeed or self.options.lora_4bit:
            backbones.gather(self.backbone, self.options)
        if process_group.is_main():
            self._finish(folder, log, best, blended)

    def _blend(self) -> dict[str, float] | None:
        """Put the mean of base and tuned weights into the model; its quality, where it can be measured."""
        model = self.backbone.model
        base = backbones.base_weights(self.options)
        tuned = {
            name: weight.clone() for name, weight in fsdp.full_weights(model).items()
        }  # on a CPU they are the model's own memory

        def put(share: float) -> dict[str, float]:
            fsdp.load_full_weights(model, blends.blend(base, tuned, share))
            return self.measure() if self.held_out else {}

        share = 1.0
        if self.options.blend == "auto":
            share, found = blends.best(lambda share: put(share)[BEST_BY])
            self.report.note(
                "blend: "
                + ", ".join(f"{share:g} {BEST_BY} {value:.4f}" for share, value in found.items())
            )
        else:
            share = float(self.options.blend)
        values = put(share)
        self.report.note(f"the model is {share:g} tuned and {1 - share:g} base")
        self.report.measures["blend"] = share
        return values or None

    def _trainer(
        self, folder: RunDir, watching: metrics_log.MetricsLog, guide: Guide | None
    ) -> Any:
        hardware.silence_libraries()
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        from contrast_train.training import trainer
        from fletching.train.trainer import IntervalCallback, TrainingSetup

        options, steps = self.options, self.updates
        setup = TrainingSetup(
            rows=self.rows,
            plan=self.plan,
            collate=self.collator(guide),
            run_dir=folder,
            metrics_log=watching,
            intervals=IntervalCallback.from_options(options, steps, evaluates=bool(self.held_out)),
            row_names=lambda rows: [self.rows.raw(row)["id"] for row in rows],
            evaluate=self.measure if self.held_out else None,
            deepspeed_config=deepspeed_config.resolve(options.deepspeed, options)
            if options.deepspeed
            else None,
        )
        args = trainer.training_arguments(
            options, steps=steps, folder=folder.path, device=self.backbone.device
        )
        made = trainer.ContrastTrainer(setup, objective=self.objective, args=args)
        if process_group.world_size() > 1:
            torch.manual_seed(
                options.seed * process_group.world_size() + process_group.rank()
            )  # other dropout on other ranks
        return made

    def _tell(self, when: str, values: dict[str, float]) -> None:
        self.report.note(
            f"{when}: "
            + ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            + " on the held-out examples"
        )

    def _finish(
        self, folder: RunDir, log: str, best: int | None, blended: dict[str, float] | None
    ) -> None:
        """The model folder, complete, in its place."""
        evaluated = publish.evaluations(log)
        if best is not None:
            after = blended or evaluated[best]
            self._tell(f"after (best, step {best:,}{', blended' if blended else ''})", after)
            self.report.measures |= {
                f"{name}_before": value for name, value in evaluated[0].items()
            } | after
        built = folder.path_to("model")
        os.makedirs(built, exist_ok=True)
        backbones.save(self.backbone, built, self.options)
        step = lineage.step(self.tool.name, self.tool.version, self._settings, self.reader.steps)
        name = os.path.basename(folder.output)
        publication = publish.Publication(
            run_dir=folder,
            folder=built,
            report=self.report,
            tool=self.tool,
            settings=self._settings,
        )
        publication.write_measures(log, self.reader.readers)
        end = {
            "rows": len(self.rows),
            "digest": self.digest,
            "base_model": self.backbone.fingerprint,
            "steps": self.updates,
            "best_step": best,
            "trained": training_index.manner(
                self.backbone.model, self._prompts(), self.backbone.lengths
            ),
        }
        trained_on.keys(
            self.rows, self.plan.seen > 0, training_index.load(self.options.model)
        ).save(built)
        text = model_card.card(
            name=name,
            base=self.options.model,
            dimension=self.backbone.model.get_embedding_dimension() or 0,
            step=step,
            plan=self.plan.describe(),
            lengths=self.backbone.lengths,
            prompts=self.backbone.model.prompts,
            measures={"base": evaluated[0], "tuned": after} if best is not None else {},
            loss=registry.told(
                self.options, self.loss, self.similarity, self.objective.temperature
            ),
        )
        why = "not reached by --steps" if self.plan.reaches_all else "left out by the plan"
        reached = int((self.plan.seen > 0).sum())
        publication.publish(
            lineage_node=step,
            end=end,
            card=text,
            rows=len(self.rows),
            rows_trained=reached,
            reason=why,
        )

    def _prompts(self) -> dict[str, list[str]]:
        """The prompts that stood before queries and documents."""
        own = self.backbone.prompts
        documents = [
            own["document"],
            *(task.doc_prompt for task in self.tasks.values() if task.doc_prompt is not None),
        ]
        return {
            "query": [own["query"] if given is None else given for given in self.row_prompts],
            "document": documents,
        }
