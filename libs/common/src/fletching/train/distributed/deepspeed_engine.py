"""Weights, gradients and moments shared out by DeepSpeed's ZeRO, and whole again for checkpoints. Needs deepspeed.

The engine runs with managed_gradient_accumulation off (DeepSpeed 0.19.8): every backward pass adds to the gradient,
also one that GradCache makes inside another, and the update ends it. ZeRO-1 reduces once, in the update. ZeRO-2 and 3
reduce in each pass, so that no rank holds a whole gradient. States are saved under the numbers and names of the bare
model and its AdamW: a run may go on with another engine or another number of processes.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fletching.errors import InputError
from fletching.train.distributed import fsdp, process_group


class DeepSpeedEngine(nn.Module):
    """The model as the Trainer calls it; `updates` is the optimiser that it steps.

    optimizer: AdamW over the model's parameters, not yet used. settings: of zero_settings.read. reached: of `reached`.
    finite: called with the gradient norm of each update; infinite where there was none because a number was not finite.
    It has no `no_sync`, on purpose: no pass may be left out.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: dict[str, Any],
        reached: set[int],
        finite: Callable[[float], Any],
    ) -> None:
        super().__init__()
        if other := {
            str(kind)[6:]
            for kind in {parameter.dtype for parameter in model.parameters()} - {torch.float32}
        }:
            raise InputError(
                f"DeepSpeed is given float32 weights here, and the model has {', '.join(sorted(other))} ones",
                "pass --dtype float32, or --fsdp instead of --deepspeed",
            )
        place = next(model.parameters()).device
        deepspeed = load(place.type)
        self.inner = _Under(model, place.type)
        self.updates = DeepSpeedOptimizer(optimizer, reached, finite)
        self.engine, *_ = deepspeed.initialize(
            model=self.inner, optimizer=optimizer, config=settings, dist_init_required=False
        )
        self.updates.engine = self.engine
        stage = settings["zero_optimization"]["stage"]
        shared = (
            self.engine.zero_optimization_stage(),
            self.engine.dp_world_size,
            self.engine.managed_gradient_accumulation(),
        )
        if shared != (stage, process_group.world_size(), False):
            raise InputError(
                f"DeepSpeed made (stage, processes, managed accumulation) = {shared}",
                "report this; pass --fsdp meanwhile",
            )

    def forward(self, *given: Any, **named: Any) -> Any:
        self.inner.autocast = (
            torch.is_autocast_enabled(self.inner.place),
            torch.get_autocast_dtype(self.inner.place),
        )
        return self.engine(*given, **named)


class _Under(nn.Module):
    """The model under the autocast that stands around the engine, which turns it off inside without a word."""

    def __init__(self, model: nn.Module, place: str) -> None:
        super().__init__()
        self.model, self.place = model, place
        self.autocast = (False, torch.bfloat16)

    def forward(self, *given: Any, **named: Any) -> Any:
        enabled, kind = self.autocast
        with torch.autocast(self.place, kind, enabled=enabled):
            return self.model(*given, **named)


class DeepSpeedOptimizer(torch.optim.Optimizer):
    """The engine's update as an optimiser: it reduces, clips, updates and clears. Its state is that of plain AdamW."""

    def __init__(
        self, plain: torch.optim.Optimizer, reached: set[int], finite: Callable[[float], Any]
    ) -> None:
        self.engine: Any = None
        self.plain, self.finite, self.defaults = plain, finite, plain.defaults
        self.norm = torch.zeros(())  # of the newest update's gradient, before it was clipped
        self.param_groups = list(
            plain.param_groups
        )  # DeepSpeed drops empty groups from its own list
        self.state = plain.state
        self.parameters = [
            parameter for group in self.param_groups for parameter in group["params"]
        ]
        self.numbers = [
            number for number, parameter in enumerate(self.parameters) if id(parameter) in reached
        ]
        count = iter(range(len(self.parameters)))
        self.packed = [[next(count) for _ in group["params"]] for group in self.param_groups]
        # Plain AdamW leaves alone what no gradient reaches (poolers); flat partitions would let it decay.
        for group in self.param_groups:
            group["params"] = [
                parameter for parameter in group["params"] if id(parameter) in reached
            ]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.engine.step()
        norm = (
            float(self.engine.get_global_grad_norm())
            if self.engine.was_step_applied()
            else float("inf")
        )
        self.norm.fill_(norm)
        self.finite(norm)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: the update has cleared them."""

    def flat(self) -> Iterator[Tensor]:
        """This rank's partitions, which AdamW updates."""
        optimizer = self.engine.optimizer
        return iter(
            getattr(optimizer, "fp32_partitioned_groups_flat", None)
            or optimizer.single_partition_of_fp32_groups
        )

    def state_dict(self) -> dict[str, Any]:
        """AdamW's, whole, on every rank: a collective."""
        groups = [
            {
                **{name: value for name, value in group.items() if name != "params"},
                "params": numbers,
            }
            for group, numbers in zip(self.param_groups, self.packed)
        ]
        return {
            "state": dict(self._states()) if self.engine is not None and self.state else {},
            "param_groups": groups,
        }

    def _link(self) -> None:
        """ZeRO-1 and 2 know parameters' moments by links made after the first group's first update: before the others'."""
        optimizer = self.engine.optimizer
        if hasattr(optimizer, "_hp_optimizer_states_linked"):
            optimizer._hp_optimizer_states_linked = False
            optimizer._lazy_init_hp_params_optimizer_state()

    def _states(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        from deepspeed.utils import safe_get_full_optimizer_state

        self._link()
        one = self.state[next(self.flat())]
        moments = [name for name, value in one.items() if isinstance(value, Tensor) and value.dim()]
        others = {name: value for name, value in one.items() if name not in moments}
        for number in self.numbers:
            found = {
                name: safe_get_full_optimizer_state(self.parameters[number], name)
                for name in moments
            }
            # Copies: AdamW counts steps in place, for each parameter.
            yield (
                number,
                {
                    name: value.detach().to("cpu", copy=True)
                    for name, value in (others | found).items()
                },
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a whole state, as state_dict gives it or plain AdamW."""
        from deepspeed.utils import safe_set_full_optimizer_state

        for group, saved in zip(self.param_groups, state["param_groups"]):
            group.update({name: value for name, value in saved.items() if name != "params"})
        if not state["state"]:
            return
        one = state["state"][self.numbers[0]]
        moments = [name for name, value in one.items() if isinstance(value, Tensor) and value.dim()]
        others = {name: value for name, value in one.items() if name not in moments}
        for flat in self.flat():
            placed = {
                name: value.to(flat.device, copy=True) for name, value in others.items()
            }  # each counts its own steps
            self.state[flat] = placed | {name: torch.zeros_like(flat) for name in moments}
        self._link()
        for number in self.numbers:
            parameter = self.parameters[number]
            for name in moments:
                safe_set_full_optimizer_state(
                    parameter, state["state"][number][name].to(parameter.device), name
                )


def reachable_parameters(model: nn.Module, value: Tensor) -> set[int]:
    """The ids of parameters that a gradient of `value` reaches; in repeated layers, all: an expert may have no token here."""
    found = {id(parameter) for layer in fsdp.repeated_layers(model) for parameter in layer.parameters()}
    seen, waiting = set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [before for before, _ in node.next_functions]
    return found


def load(place: str) -> Any:
    """The library, told that nothing is to be found out, compiled or printed."""
    os.environ.setdefault("DS_ACCELERATOR", place)
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    warnings.filterwarnings(
        "ignore", message=".*(all_gather_into_tensor|reduce_scatter_tensor)", category=FutureWarning
    )
    import deepspeed

    # Shared-memory messages between CPUs are for inference alone, and would be compiled for two minutes.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
