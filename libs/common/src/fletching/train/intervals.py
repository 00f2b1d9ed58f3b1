"""When a run logs, evaluates and saves, and its learning rates. Needs transformers."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fletching.options import TrainingOptions
from fletching.train import schedule

CHECKPOINTS = 10  # of a run without --save-every
EVALUATIONS = 4  # of a run without --eval-every


class IntervalCallback(TrainerCallback):
    """Tells the Trainer after each step whether to log, evaluate, save and stop.

    steps: of the run. eval_every: None for never; else the last step is evaluated too. keep:
    checkpoints besides the best one. warmup: steps.
    """

    def __init__(
        self,
        steps: int,
        *,
        save_every: int,
        eval_every: int | None,
        keep: int,
        warmup: int,
        schedule: schedule.Kind,
    ) -> None:
        self.steps = steps
        self.save_every = save_every
        self.eval_every = eval_every
        self.keep = keep
        self.warmup = warmup
        self.schedule = schedule

    @classmethod
    def from_options(
        cls, options: TrainingOptions, steps: int, *, evaluates: bool
    ) -> IntervalCallback:
        """By the options of every training tool; a warmup below 1 is a fraction of the run."""
        eval_every = None
        if evaluates:
            eval_every = getattr(options, "eval_every", None) or _part_of(steps, EVALUATIONS)
        warmup = options.warmup
        return cls(
            steps,
            save_every=options.save_every or _part_of(steps, CHECKPOINTS),
            eval_every=eval_every,
            keep=options.keep_checkpoints,
            warmup=int(warmup) if warmup >= 1 else round(warmup * steps),
            schedule=options.schedule,
        )

    def scheduler(self, optimizer: Optimizer) -> LambdaLR:
        """The learning rates of this run as torch's scheduler."""

        def factor(step: int) -> float:
            return schedule.learning_rate_factor(
                step, steps=self.steps, warmup=self.warmup, kind=self.schedule
            )

        return LambdaLR(optimizer, factor)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Set what the Trainer does after this step."""
        step = state.global_step
        is_last = step == self.steps
        control.should_log = True
        control.should_evaluate = self.eval_every is not None and (
            is_last or step % self.eval_every == 0
        )
        control.should_save = not is_last and step % self.save_every == 0
        control.should_training_stop = is_last


def _part_of(steps: int, parts: int) -> int:
    """Steps between `parts` events of a run."""
    return max(-(-steps // parts), 1)
