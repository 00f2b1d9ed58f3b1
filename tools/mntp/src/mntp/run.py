"""One run from options to model folder."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

import numpy as np
import torch

from fletching import cli, lineage, training_index
from fletching.errors import InputError
from fletching.report import Report
from fletching.train import hardware, metrics_log, publish
from fletching.train.distributed import deepspeed_config, fsdp, process_group
from fletching.train.run_dir import ROWS, RunDir, checkpoint_step
from mntp import attention, decoder, encoder, model_card
from mntp.block_plan import Plan, plan
from mntp.documents import Documents
from mntp.held_out import HeldOut
from mntp.masking import Masking
from mntp.objective import Collator, Objective, masked, micro_batches
from mntp.token_store import Pieces, spool

STEPS = 1000
REPLACED = {"mlm": (0.8, 0.1), "all": (1.0, 0.0)}
HELD_OUT = "held-out.arrow"


class Job:
    """What a run stands on: model, texts as tokens, plan, loss. Made once; `train` does the work."""

    def __init__(self, options: Any, report: Report, tool: cli.Tool, run_path: str) -> None:
        self.options, self.report, self.tool = options, report, tool
        self.documents = (
            Documents(report, options.inputs, limit=options.limit, lines=options.lines)
            if self.trains and process_group.is_main()
            else None
        )
        self.decoder = decoder.load(options, report)
        path = os.path.join(run_path, ROWS)
        self.digest, self.rows = process_group.broadcast(
            spool(self.documents, self.decoder.tokenizer, path, report)
            if self.documents is not None
            else ("", 0)
        )
        if not self.trains:
            return
        self.pieces = Pieces(path, self.decoder.tokenizer, options.length)
        if not self.pieces.tokens:
            raise InputError(
                "there is no text to train on", "look at what the program before this one dropped"
            )
        self._settle_packing()
        self.plan: Plan = plan(
            self.pieces.sizes,
            length=options.length,
            batch=options.batch,
            seed=options.seed,
            packed=options.pack,
            epochs=options.epochs,
            steps=options.steps or STEPS,
        )
        self.collator = Collator(self.pieces, self._masking())
        decoder.place(self.decoder, options)
        if self.decoder.device.type == "cpu":
            hardware.keep_freed_memory()
        self.objective = Objective(
            self.decoder.network,
            autocast=self.decoder.autocast,
            pad_id=self.decoder.tokenizer.pad_token_id or 0,
        )
        if options.fsdp:
            fsdp.shard(self.objective, self.decoder.device)
        self.held_out = self._held_out(run_path) if options.eval else None

    @property
    def trains(self) -> bool:
        return self.options.steps != 0

    @property
    def budget(self) -> int:
        """Tokens of a micro-batch."""
        return self.options.batch_tokens or (2048 if self.decoder.device.type == "cpu" else 8192)

    def _settle_packing(self) -> None:
        """Raises InputError where texts in one block would be another thing than the same texts alone."""
        if not self.options.pack:
            return
        network = self.decoder.network
        moved = attention.packing_moves(network)
        if moved > attention.tolerance(network):
            raise InputError(
                f"{network.config.model_type} gives texts that share a block other states (by {moved:.2g})",
                "pass --no-pack",
            )
        window = getattr(network.config.get_text_config(), "sliding_window", None)
        if window and window < self.options.length:
            raise InputError(
                f"--length {self.options.length} is above the window of the model's attention, {window}",
                "pass --no-pack",
            )

    def _masking(self) -> Masking:
        options = self.options
        words = len(self.decoder.tokenizer)
        return Masking(
            options.mask_prob,
            REPLACED[options.masking],
            self.decoder.mask_id,
            words,
            self.pieces.special,
            options.seed,
        )

    def _held_out(self, run_path: str) -> HeldOut:
        path = os.path.join(run_path, HELD_OUT)
        if process_group.is_main():
            documents = Documents(
                self.report, [self.options.eval], lines=self.options.lines, count=False
            )
            spool(documents, self.decoder.tokenizer, path, self.report, count=False)
        process_group.barrier()
        pieces = Pieces(path, self.decoder.tokenizer, self.options.length)
        process_group.barrier()  # the first process tidies the folder next; what is open stays
        if not pieces.tokens:
            raise InputError(f"--eval {self.options.eval} holds no text", "name another file")
        return HeldOut(
            Collator(pieces, self._masking()), self.objective, self.budget, self.decoder.device
        )

    @property
    def manifest(self) -> dict[str, Any]:
        """What must be equal for a run to go on from a checkpoint."""
        return {
            "version": self.tool.version,
            "data": self.digest,
            "model": self.decoder.fingerprint,
            "options": cli.row_options(self.options),
        }

    @property
    def _settings(self) -> dict[str, Any]:
        """The options as the lineage shows them: no path, the same on every machine."""
        options = {
            name: value
            for name, value in cli.row_options(self.options).items()
            if name not in ("model", "eval", "adapters")
        }
        return options | {"model": {"fingerprint": self.decoder.fingerprint}}

    def describe(self) -> list[str]:
        """Notes of the plan, which the card repeats."""
        if not self.trains:
            return ["attention turned, nothing trained"]
        epoch = self.plan.blocks(0)
        filled = self.pieces.sizes.sum() / (
            len(epoch)
            * int(self.pieces.sizes.max() if not self.options.pack else self.options.length)
        )
        moving, whole = decoder.trained(self.decoder.network)
        return [
            f"{moving:,} of {whole:,} weights train ({moving / whole:.2%}), the language-model head does not",
            f"{self.rows:,} rows, {self.pieces.tokens:,} tokens in {len(self.pieces):,} pieces of up to {self.options.length}",
            f"{len(epoch):,} blocks an epoch, {filled:.0%} full; {self.plan.steps:,} steps of up to {self.plan.batch:,} blocks",
            f"{self.options.mask_prob:.0%} of the tokens masked ({self.options.masking}), the state before a token predicts it",
        ]

    def _tell_plan(self) -> None:
        for line in self.describe():
            self.report.note(line)
        moving, whole = decoder.trained(self.decoder.network)
        self.report.measures |= {
            "trained_weights": moving,
            "weights": whole,
            "tokens": self.pieces.tokens,
            "steps": self.plan.steps,
        }

    def dry_run(self) -> None:
        """Notes, and the time of all steps by that of one real micro-batch there and back."""
        self._tell_plan()
        batch = self.collator([(0, block) for block in self.plan.epoch(0)[0]])
        parts = micro_batches(batch, self.budget, self.objective.pad_id)
        part = parts[len(parts) // 2]
        times = []
        for _ in range(2):
            start = time.monotonic()
            (
                self.objective(type(part)(*(each.to(self.decoder.device) for each in part))).loss
                / max(masked(batch), 1)
            ).backward()
            times.append(time.monotonic() - start)
        whole = min(times) * len(batch["ids"]) / int((part.texts >= 0).sum()) * self.plan.steps
        self.report.measures["estimated_seconds"] = whole
        kind = "bfloat16" if self.decoder.autocast else "float32"
        self.report.note(
            f"about {whole / 60:.1f} minutes on {self.decoder.device}, {kind}, in {len(parts)} micro-batches a step"
        )

    def train(self, folder: RunDir, newest: str | None) -> None:
        """Train, from the checkpoint `newest` where there is one, and publish the encoder."""
        log = folder.path_to("measures.jsonl")
        if self.trains:
            self._train(folder, newest, log)
            self.decoder = decoder.gathered(self.decoder, self.objective, self.options)
        if process_group.is_main():
            self._finish(folder, log)

    def _train(self, folder: RunDir, newest: str | None, log: str) -> None:
        step = checkpoint_step(newest)
        if newest:
            self.report.note(f"going on from step {step:,} of {self.plan.steps:,}")
        else:
            self._tell_plan()
        with self.report.progress("training", self.plan.steps - step, "steps") as progress:
            watching = metrics_log.MetricsLog(log, progress, step)
            if self.held_out and not newest:
                watching.log_evaluation(0, self.held_out.measure())
            self._trainer(folder, watching).train(resume_from_checkpoint=newest)
        watching.close()

    def _trainer(self, folder: RunDir, watching: metrics_log.MetricsLog) -> Any:
        hardware.silence_libraries()
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        from fletching.train.trainer import IntervalCallback, TrainingSetup, training_arguments
        from mntp.trainer import MntpTrainer, Same

        options, steps = self.options, self.plan.steps
        setup = TrainingSetup(
            rows=Same(),
            plan=self.plan,
            collate=self._batch,
            run_dir=folder,
            metrics_log=watching,
            intervals=IntervalCallback.from_options(options, steps, evaluates=bool(self.held_out)),
            row_names=lambda rows: [f"{row + 1:,}" for row in rows],
            evaluate=self.held_out.measure if self.held_out else None,
            deepspeed_config=deepspeed_config.resolve(options.deepspeed, options)
            if options.deepspeed
            else None,
        )
        args = training_arguments(
            options, steps=steps, folder=folder.path, device=self.decoder.device
        )
        made = MntpTrainer(setup, objective=self.objective, args=args, budget=self.budget)
        torch.manual_seed(
            options.seed * process_group.world_size() + process_group.rank()
        )  # other dropout on other ranks
        return made

    def _batch(self, blocks: list[Any]) -> dict[str, torch.Tensor]:
        """Blocks as tensors, and the rows that stand in them."""
        rows = sorted({int(self.pieces.row[piece]) for _, block in blocks for piece in block})
        return self.collator(blocks) | {"rows": torch.tensor(rows)}

    def _finish(self, folder: RunDir, log: str) -> None:
        """The model folder, complete, in its place."""
        built, plan = folder.path_to("model"), self.describe()
        os.makedirs(built, exist_ok=True)
        model = encoder.save(self.decoder, built, self.options, folder.output)
        if encoder.runs_own_code(built):
            plan.append(
                "loads by its own Python alone: SentenceTransformer(path, trust_remote_code=True)"
            )
            self.report.note(plan[-1])
        steps = self.documents.steps if self.documents is not None else []
        step = lineage.step(self.tool.name, self.tool.version, self._settings, steps)
        name = os.path.basename(folder.output)
        publication = publish.Publication(
            run_dir=folder,
            folder=built,
            report=self.report,
            tool=self.tool,
            settings=self._settings,
        )
        if self.trains:
            sources = (
                [self.documents.reader]
                if self.documents is not None and self.documents.reader
                else []
            )
            publication.write_measures(log, sources)
        evaluated = self._evaluated(log)
        lengths = {"query": self.options.length, "document": self.options.length}
        end = {
            "rows": self.rows,
            "digest": self.digest,
            "base_model": self.decoder.fingerprint,
            "steps": self.plan.steps if self.trains else 0,
            "trained": training_index.manner(model, {"query": [], "document": []}, lengths),
        }
        dimension = model.get_embedding_dimension() or 0
        text = model_card.card(
            name=name,
            base=self.options.model,
            dimension=dimension,
            step=step,
            plan=plan,
            measures=evaluated,
        )
        reached = len(np.unique(self.pieces.row[self.plan.seen() > 0])) if self.trains else 0
        publication.publish(
            lineage_node=step,
            end=end,
            card=text,
            rows=self.rows,
            rows_trained=reached,
        )

    def _evaluated(self, log: str) -> dict[int, dict[str, float]]:
        """step: held-out measures. Told, first and last."""
        found = publish.evaluations(log)
        for when, step in (
            ("before", min(found, default=None)),
            ("after", max(found, default=None)),
        ):
            if step is not None:
                told = ", ".join(f"{name} {value:.4f}" for name, value in found[step].items())
                self.report.note(f"{when}: {told} on the held-out texts")
                self.report.measures |= {
                    f"{name}_{when}": value for name, value in found[step].items()
                }
        return found
