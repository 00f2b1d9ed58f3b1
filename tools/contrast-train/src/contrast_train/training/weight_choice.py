"""The weights that a run publishes: the best trained ones, blended where --blend says so, unless
the base model is as good on --eval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contrast_train.model import backbone as backbones
from contrast_train.model import weight_interpolation
from contrast_train.model.backbone import Backbone
from contrast_train.model.chosen_weights import ChosenWeights, Measures
from contrast_train.options import Options
from contrast_train.training.retrieval_evaluator import BEST_BY
from fletching.report import Report
from fletching.train import publish
from fletching.train.distributed import fsdp, process_group

if TYPE_CHECKING:
    from contrast_train.training.trainer import ContrastTrainer


@dataclass(frozen=True, kw_only=True)
class WeightChoice:
    """Chooses the weights when training is over.

    evaluate: the quality of the model as it is now; None without --eval.
    """

    options: Options
    backbone: Backbone
    report: Report
    evaluate: Callable[[], Measures] | None

    def choose(self, trainer: ContrastTrainer, log: str) -> ChosenWeights:
        """Load the weights to publish into the model. Every process must call it.

        log: the metrics of the run.
        """
        steps, trained_step = trainer.state.global_step, trainer.load_best()
        blended = self._interpolate_weights() if self.options.blend else None
        if trained_step is None:
            self._gather()
            return ChosenWeights(best_step=None, steps=steps, quality={})
        by_step = process_group.broadcast(publish.evaluations(log))
        base, tuned = by_step[0], blended or by_step[trained_step]
        is_better = tuned[BEST_BY] > base[BEST_BY]
        best, best_step = (tuned, trained_step) if is_better else (base, 0)
        self.report.measures |= {f"{name}_before": value for name, value in base.items()}
        self.report.measures |= best
        self.report.measures |= {
            "best_step": best_step,
            "best_metric": best[BEST_BY],
            "base_metric": base[BEST_BY],
            "trained_step": trained_step,
            "trained_metric": tuned[BEST_BY],
            "steps": steps,
        }
        if is_better:
            blend = ", blended" if blended else ""
            note_quality(self.report, f"after (best, step {best_step:,}{blend})", tuned)
            self._gather()
            quality = {"base": base, "tuned": tuned}
        else:
            self._restore_base(base, tuned, trained_step)
            quality = {"base": base, f"step {trained_step:,}, not published": tuned}
        return ChosenWeights(best_step=best_step, steps=steps, quality=quality)

    def _restore_base(self, base: Measures, tuned: Measures, trained_step: int) -> None:
        self.report.note(
            f"no step was better than the base: {BEST_BY} {tuned[BEST_BY]:.4f} at best (step "
            f"{trained_step:,}), {base[BEST_BY]:.4f} before; the model has the base's weights"
        )
        if process_group.is_main():
            backbones.restore_base(self.backbone, self.options)

    def _gather(self) -> None:
        if self.options.fsdp or self.options.deepspeed or self.options.lora_4bit:
            backbones.gather(self.backbone, self.options)

    def _interpolate_weights(self) -> Measures | None:
        """Load the mean of base and tuned weights; its quality, where it can be evaluated."""
        model = self.backbone.model
        base = backbones.base_weights(self.options)
        # Copies: on a CPU the full weights are the model's own memory.
        tuned = {name: weight.clone() for name, weight in fsdp.full_weights(model).items()}

        def _load(share: float) -> Measures:
            fsdp.load_full_weights(model, weight_interpolation.interpolate(base, tuned, share))
            return self.evaluate() if self.evaluate else {}

        if self.options.blend == "auto":
            share, values = weight_interpolation.best_share(lambda share: _load(share)[BEST_BY])
            tried = [f"{share:g} {BEST_BY} {value:.4f}" for share, value in values.items()]
            self.report.note("blend: " + ", ".join(tried))
        else:
            share = float(self.options.blend or 1)
        measures = _load(share)
        self.report.note(f"the model is {share:g} tuned and {1 - share:g} base")
        self.report.measures["blend"] = share
        return measures or None


def note_quality(report: Report, when: str, measures: Measures) -> None:
    """Say held-out measures. when: before or after training."""
    values = ", ".join(f"{name} {value:.4f}" for name, value in measures.items())
    report.note(f"{when}: {values} on the held-out examples")
