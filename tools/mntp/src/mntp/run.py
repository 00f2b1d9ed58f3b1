"""One run from options to model folder."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fletching import cli
from fletching.encode import model as models
from fletching.errors import InputError
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.train import hardware
from fletching.train.distributed import deepspeed_config, fsdp, process_group
from fletching.train.metrics_log import MetricsLog
from fletching.train.run_dir import ROWS, RunDir, checkpoint_step
from mntp import attention, decoder, masked_lm
from mntp.block_plan import Block, BlockPlan
from mntp.decoder import Decoder
from mntp.documents import Documents
from mntp.dry_run import seconds_of_step
from mntp.held_out import MaskedTokenEvaluator
from mntp.masking import TokenMasking
from mntp.objective import (
    MntpCollator,
    MntpObjective,
    micro_batches,
)
from mntp.options import Options
from mntp.publishing import EncoderPublisher, TrainedOn
from mntp.token_store import TokenPieces, tokenize_to_disk

if TYPE_CHECKING:
    from mntp.trainer import MntpTrainer

DEFAULT_STEPS = 1000
REPLACED = {"mlm": (0.8, 0.1), "all": (1.0, 0.0)}  # by the mask token, by a random token
HELD_OUT = "held-out.arrow"


class MntpRun:
    """Resolved inputs of a run: model, texts as tokens, plan and loss. `train` does the work."""

    def __init__(self, options: Options, report: Report, tool: cli.Tool, *, run_path: str) -> None:
        self.options, self.report, self.tool = options, report, tool
        self.documents: Documents | None = None
        self.held_out_digest: str | None = None
        if self.trains and process_group.is_main():
            self.documents = Documents(
                report, options.inputs, limit=options.limit, lines=options.lines
            )
        self.decoder = decoder.load(options, report)
        path = os.path.join(run_path, ROWS)
        self.digest, self.rows = process_group.broadcast(self._tokenize(path))
        if self.trains:
            self._prepare_training(path)
            self.held_out = self._held_out(run_path) if options.eval else None

    @property
    def trains(self) -> bool:
        """False for --steps 0, which saves the bidirectional model without training."""
        return self.options.steps != 0

    @property
    def budget(self) -> int:
        """Tokens of a micro-batch."""
        default = 2048 if self.decoder.device.type == "cpu" else 8192
        return self.options.batch_tokens or default

    def _tokenize(self, path: str) -> tuple[str, int]:
        """(digest of the texts, rows), on the first process."""
        if self.documents is None:
            return "", 0
        return tokenize_to_disk(self.documents, self.decoder.tokenizer, path, report=self.report)

    def _prepare_training(self, path: str) -> None:
        options = self.options
        self.pieces = TokenPieces(path, self.decoder.tokenizer, options.length)
        if not self.pieces.tokens:
            raise self._nothing_to_train_on()
        self.packs = self._packs()
        self.plan = self._block_plan()
        self.collator = MntpCollator(self.pieces, self._masking(self.pieces))
        decoder.prepare_training(self.decoder, options)
        if self.decoder.device.type == "cpu":
            hardware.keep_freed_memory()
        self.objective = MntpObjective(
            self.decoder.network,
            autocast=self.decoder.autocast,
            pad_id=_pad_id(self.decoder),
            in_place=self.decoder.is_encoder,
        )
        if options.fsdp:
            fsdp.shard(self.objective, self.decoder.device)

    def _packs(self) -> bool:
        """Do texts share blocks? Raises InputError for a decoder that cannot keep them apart."""
        options, network = self.options, self.decoder.network
        if not options.pack:
            return False
        if not self.decoder.is_encoder:
            attention.check_packing(network, options.length)
            return True
        packs = masked_lm.can_pack(network, options.length)
        if not packs:
            self.report.note("one text a block: the model cannot keep texts of a block apart")
        return packs

    def _nothing_to_train_on(self) -> InputError:
        if self.rows:
            what = f"the tokenizer of --model gives no token for any of {self.rows:,} texts"
            return InputError(what, "name another model")
        fix = "look at what the program before this one dropped"
        return InputError("there is no text to train on", fix)

    def _block_plan(self) -> BlockPlan:
        options = self.options
        plan = BlockPlan(
            sizes=self.pieces.sizes,
            length=options.length,
            batch=options.batch,
            seed=options.seed,
            steps=options.steps or DEFAULT_STEPS,
            packed=self.packs,
        )
        return plan if options.epochs is None else plan.for_epochs(options.epochs)

    def _masking(self, pieces: TokenPieces) -> TokenMasking:
        return TokenMasking(
            probability=self.options.mask_prob,
            replaced=REPLACED[self.options.masking],
            mask_id=self.decoder.mask_id,
            vocabulary=len(self.decoder.tokenizer),
            special=pieces.special,
            seed=self.options.seed,
            first=self.decoder.is_encoder,
        )

    def _held_out(self, run_path: str) -> MaskedTokenEvaluator:
        """The evaluator over --eval. Raises InputError where that has no text."""
        options, path = self.options, os.path.join(run_path, HELD_OUT)
        self.held_out_digest = process_group.broadcast(
            self._tokenize_held_out(path) if process_group.is_main() else ""
        )
        pieces = TokenPieces(path, self.decoder.tokenizer, options.length)
        process_group.barrier()  # the first process cleans the folder next; mapped files survive
        if not pieces.tokens:
            raise InputError(f"--eval {options.eval} holds no text", "name another file")
        collator = MntpCollator(pieces, self._masking(pieces))
        return MaskedTokenEvaluator(
            collator, self.objective, budget=self.budget, device=self.decoder.device
        )

    def _tokenize_held_out(self, path: str) -> str:
        """The digest of the texts."""
        documents = Documents(
            self.report, [str(self.options.eval)], lines=self.options.lines, count=False
        )
        digest, _ = tokenize_to_disk(
            documents, self.decoder.tokenizer, path, report=self.report, count=False
        )
        return digest

    @property
    def manifest(self) -> Lineage:
        """What must be equal for a run to resume from a checkpoint."""
        return {
            "version": self.tool.version,
            "data": self.digest,
            "model": self.decoder.fingerprint,
            "dtype": models.dtype_name(self.decoder.autocast),
            "held-out texts": self.held_out_digest,
            "options": cli.row_options(self.options),
        }

    @property
    def _publisher(self) -> EncoderPublisher:
        """For the decoder as it is now."""
        return EncoderPublisher(
            self.options,
            self.report,
            self.tool,
            decoder=self.decoder,
            documents=self.documents,
            trained_on=TrainedOn(
                rows=self.rows,
                digest=self.digest,
                steps=self.plan.steps if self.trains else 0,
                plan=self.describe(),
            ),
        )

    def describe(self) -> list[str]:
        """Lines about the plan, for the log and the model card."""
        if not self.trains:
            return ["bidirectional attention, no training"]
        options, pieces, plan = self.options, self.pieces, self.plan
        trained, weights = self.decoder.weight_counts()
        blocks = len(plan.blocks(0))
        block_size = options.length if self.packs else int(pieces.sizes.max())
        is_encoder = self.decoder.is_encoder
        head = "does too" if is_encoder else "does not"
        predicted = "at its own place (MLM)" if is_encoder else "from the state before it"
        fill = pieces.sizes.sum() / (blocks * block_size)
        return [
            f"{trained:,} of {weights:,} weights train ({trained / weights:.2%}), "
            f"the language-model head {head}",
            f"{self.rows:,} rows, {pieces.tokens:,} tokens in {len(pieces):,} pieces "
            f"of up to {options.length}",
            f"{blocks:,} blocks an epoch, {fill:.0%} full; "
            f"{plan.steps:,} steps of up to {plan.batch:,} blocks",
            f"{options.mask_prob:.0%} of the tokens masked ({options.masking}), "
            f"each predicted {predicted}",
        ]

    def _report_plan(self) -> None:
        for line in self.describe():
            self.report.note(line)
        trained, weights = self.decoder.weight_counts()
        self.report.measures |= {
            "trained_weights": trained,
            "weights": weights,
            "tokens": self.pieces.tokens,
            "steps": self.plan.steps,
        }

    def dry_run(self) -> None:
        """Report the plan, and the time of all steps by that of one real micro-batch."""
        self._report_plan()
        device = self.decoder.device
        batch = self.collator([(0, block) for block in self.plan.epoch(0)[0]])
        parts = micro_batches(batch, self.budget, self.objective.pad_id)
        seconds = self.plan.steps * seconds_of_step(batch, parts, self.objective, device=device)
        self.report.measures["estimated_seconds"] = seconds
        dtype = "bfloat16" if self.decoder.autocast else "float32"
        self.report.note(
            f"about {seconds / 60:.1f} minutes on {device}, {dtype}, "
            f"in {len(parts)} micro-batches a step"
        )

    def train(self, folder: RunDir, newest: str | None) -> None:
        """Train, from the checkpoint `newest` where there is one, and publish the encoder."""
        log = folder.path_to("measures.jsonl")
        if process_group.is_main():
            self._publisher.rehearse(log)
        if self.trains:
            self._train(folder, newest, log)
            self.decoder = decoder.gather(self.decoder, self.objective, self.options)
        if process_group.is_main():
            self._publisher.publish(folder, log, rows_trained=self._rows_trained())

    def _train(self, folder: RunDir, newest: str | None, log: str) -> None:
        step = checkpoint_step(newest)
        if newest:
            self.report.note(f"resuming from step {step:,} of {self.plan.steps:,}")
        else:
            self._report_plan()
        with self.report.progress("training", self.plan.steps - step, "steps") as progress:
            metrics_log = MetricsLog(log, progress, step)
            if self.held_out and not newest:
                metrics_log.log_evaluation(0, self.held_out.measure())
            self._trainer(folder, metrics_log).train(resume_from_checkpoint=newest)
        metrics_log.close()

    def _trainer(self, folder: RunDir, metrics_log: MetricsLog) -> MntpTrainer:
        hardware.silence_libraries()
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        from fletching.train.trainer import IntervalCallback, TrainingSetup, training_arguments
        from mntp.trainer import IdentityDataset, MntpTrainer

        options, steps = self.options, self.plan.steps
        deepspeed: dict[str, Any] | None = None
        if options.deepspeed:
            deepspeed = deepspeed_config.resolve(options.deepspeed, options)
        setup = TrainingSetup(
            rows=IdentityDataset(),
            plan=self.plan,
            collate=self._collate,
            run_dir=folder,
            metrics_log=metrics_log,
            intervals=IntervalCallback.from_options(
                options, steps, evaluates=self.held_out is not None
            ),
            row_names=lambda rows: [f"{row + 1:,}" for row in rows],
            evaluate=self.held_out.measure if self.held_out else None,
            deepspeed_config=deepspeed,
        )
        args = training_arguments(
            options, steps=steps, folder=folder.path, device=self.decoder.device
        )
        trainer = MntpTrainer(setup, objective=self.objective, args=args, budget=self.budget)
        # Each rank draws another dropout.
        torch.manual_seed(options.seed * process_group.world_size() + process_group.rank())
        return trainer

    def _collate(self, blocks: list[tuple[int | str, Block]]) -> dict[str, torch.Tensor]:
        """Blocks as tensors, and the rows of the input that they have texts of."""
        pieces = [piece for _, block in blocks for piece in block]
        rows = np.unique(self.pieces.rows[pieces])
        return self.collator(blocks) | {"rows": torch.from_numpy(rows)}

    def _rows_trained(self) -> int:
        if not self.trains:
            return 0
        return len(np.unique(self.pieces.rows[self.plan.piece_counts() > 0]))


def _pad_id(loaded: Decoder) -> int:
    pad_id: Any = loaded.tokenizer.pad_token_id
    return int(pad_id or 0)
