"""One run from options to model folder."""

from __future__ import annotations

import functools
import os
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fletching import cli, lineage, training_index
from fletching.encode import model as models
from fletching.errors import InputError
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.train import hardware, publish
from fletching.train.base_card import BaseCard, read_base_card
from fletching.train.distributed import deepspeed_config, fsdp, process_group
from fletching.train.metrics_log import MetricsLog
from fletching.train.model_card import hub_datasets, hyperparameters_section, note_licence
from fletching.train.run_dir import ROWS, RunDir, checkpoint_step
from mntp import attention, decoder, encoder, masked_lm, model_card
from mntp.block_plan import Block, BlockPlan
from mntp.decoder import Decoder
from mntp.documents import Documents
from mntp.held_out import MaskedTokenEvaluator
from mntp.masking import TokenMasking
from mntp.objective import (
    PADDING,
    MntpCollator,
    MntpObjective,
    PaddedBlocks,
    masked_count,
    micro_batches,
)
from mntp.options import Options
from mntp.token_store import TokenPieces, tokenize_to_disk

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from mntp.trainer import MntpTrainer

DEFAULT_STEPS = 1000
REPLACED = {"mlm": (0.8, 0.1), "all": (1.0, 0.0)}  # by the mask token, by a random token
HELD_OUT = "held-out.arrow"
NOT_IN_LINEAGE = ("model", "eval", "adapters")  # paths; the fingerprint says which model it is


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
    def _settings(self) -> Lineage:
        """The options as the lineage shows them: no path, the same on every machine."""
        options: Lineage = cli.row_options(self.options)
        settings = {name: value for name, value in options.items() if name not in NOT_IN_LINEAGE}
        return settings | {"model": {"fingerprint": self.decoder.fingerprint}}

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
        batch = self.collator([(0, block) for block in self.plan.epoch(0)[0]])
        parts = micro_batches(batch, self.budget, self.objective.pad_id)
        blocks = parts[len(parts) // 2]
        seconds = min(self._time_pass(blocks, masked_count(batch)) for _ in range(2))
        tokens = int((blocks.texts != PADDING).sum())
        seconds_of_run = seconds * len(batch["ids"]) / tokens * self.plan.steps
        self.report.measures["estimated_seconds"] = seconds_of_run
        dtype = "bfloat16" if self.decoder.autocast else "float32"
        self.report.note(
            f"about {seconds_of_run / 60:.1f} minutes on {self.decoder.device}, {dtype}, "
            f"in {len(parts)} micro-batches a step"
        )

    def _time_pass(self, blocks: PaddedBlocks, count: int) -> float:
        """Seconds of one forward and backward pass."""
        start = time.monotonic()
        loss = self.objective(blocks.to(self.decoder.device)).loss
        (loss / max(count, 1)).backward()
        return time.monotonic() - start

    def train(self, folder: RunDir, newest: str | None) -> None:
        """Train, from the checkpoint `newest` where there is one, and publish the encoder."""
        log = folder.path_to("measures.jsonl")
        if process_group.is_main():
            note_licence(self.report, self.base_card)
            self._card("rehearsal", plan=self.describe(), measures={}, log=log)
        if self.trains:
            self._train(folder, newest, log)
            self.decoder = decoder.gather(self.decoder, self.objective, self.options)
        if process_group.is_main():
            self._publish(folder, log)

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

    def _publish(self, folder: RunDir, log: str) -> None:
        """Build the model folder and move it to --output."""
        built = folder.path_to("model")
        os.makedirs(built, exist_ok=True)
        model = encoder.save(self.decoder, built, self.options, output=folder.output)
        plan = self.describe()
        if encoder.needs_remote_code(built):
            plan.append(
                "loads only with its own Python code: "
                "SentenceTransformer(path, trust_remote_code=True)"
            )
            self.report.note(plan[-1])
        publication = publish.Publication(
            run_dir=folder,
            folder=built,
            report=self.report,
            tool=self.tool,
            settings=self._settings,
        )
        if self.trains:
            reader = self.documents.reader if self.documents else None
            publication.write_measures(log, [reader] if reader else [])
        card = self._card(
            os.path.basename(folder.output),
            plan=plan,
            measures=self._report_evaluations(log),
            log=log,
            model=model,
        )
        publication.publish(
            lineage_node=self._lineage_node,
            end=self._lineage_end(model),
            card=card,
            rows=self.rows,
            rows_trained=self._rows_trained(),
            reason=publish.unreached(self.options),
        )

    @property
    def _lineage_node(self) -> lineage.Node:
        inputs = self.documents.lineage if self.documents else []
        return lineage.make_node(
            self.tool.name, self.tool.version, options=self._settings, sources=inputs
        )

    @functools.cached_property
    def base_card(self) -> BaseCard:
        """What the decoder's own card says."""
        return read_base_card(self.options.model)

    def _card(
        self,
        name: str,
        *,
        plan: list[str],
        measures: dict[int, dict[str, float]],
        log: str,
        model: SentenceTransformer | None = None,
    ) -> str:
        """The model card. Built once before training too: whatever fails fails early."""
        dimension = model.get_embedding_dimension() if model is not None else 0
        steps = self.plan.steps if self.trains else 0
        return model_card.MntpCard(
            name=name,
            base=self.base_card,
            base_name=self.options.model,
            dimension=dimension or 0,
            model=model,
            step=self._lineage_node,
            plan=plan,
            hyperparameters=hyperparameters_section(self.options, steps=steps),
            measures=measures,
            rows=self.rows,
            datasets=hub_datasets(self.options.inputs),
            log=log if self.trains else "",
            is_encoder=self.decoder.is_encoder,
        ).render()

    def _lineage_end(self, model: SentenceTransformer) -> Lineage:
        length = self.options.length
        prompts: dict[str, list[str]] = {"query": [], "document": []}
        lengths = {"query": length, "document": length}
        return {
            "rows": self.rows,
            "digest": self.digest,
            "base_model": self.decoder.fingerprint,
            "steps": self.plan.steps if self.trains else 0,
            "trained": training_index.describe_training(model, prompts, lengths),
        }

    def _rows_trained(self) -> int:
        if not self.trains:
            return 0
        return len(np.unique(self.pieces.rows[self.plan.piece_counts() > 0]))

    def _report_evaluations(self, log: str) -> dict[int, dict[str, float]]:
        """Held-out measures by step; the first and the last are reported."""
        evaluations: dict[int, dict[str, float]] = publish.evaluations(log)
        if not evaluations:
            return evaluations
        for when, step in (("before", min(evaluations)), ("after", max(evaluations))):
            measures = evaluations[step]
            figures = ", ".join(f"{name} {value:.4f}" for name, value in measures.items())
            self.report.note(f"{when}: {figures} on the held-out texts")
            self.report.measures |= {f"{name}_{when}": value for name, value in measures.items()}
        return evaluations


def _pad_id(loaded: Decoder) -> int:
    pad_id: Any = loaded.tokenizer.pad_token_id
    return int(pad_id or 0)
