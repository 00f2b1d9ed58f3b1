"""Weights, gradients and moments sharded by DeepSpeed's ZeRO, and whole states of them.

Needs deepspeed. The engine runs with managed_gradient_accumulation off (DeepSpeed 0.19.8):
every backward pass adds to the gradient, also one that GradCache makes inside another, and the
update ends it. ZeRO-1 reduces once, in the update. ZeRO-2 and 3 reduce in each pass, so that no
rank holds a whole gradient. States are saved under the numbers and names of the bare model and
its AdamW: a run may resume with another engine or another number of processes.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fletching.errors import InputError
from fletching.train.distributed import fsdp, process_group

if TYPE_CHECKING:
    from fletching.train.distributed.deepspeed_config import Config
    from fletching.train.distributed.fsdp import OptimizerState

Moments = dict[str, Tensor]  # AdamW's values of one parameter, by name


class DeepSpeedEngine(nn.Module):
    """The model as the Trainer calls it; `updates` is the optimiser that it steps.

    optimizer: AdamW over the model's parameters, not yet used. settings: of
    deepspeed_config.resolve. reachable: of `reachable_parameters`. on_norm: called with the
    gradient norm of each update; infinite where there was no update because a number was not
    finite. Raises InputError where DeepSpeed cannot do what was asked for. It has no `no_sync`,
    on purpose: no pass may be left out.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        settings: Config,
        reachable: set[int],
        on_norm: Callable[[float], object],
    ) -> None:
        super().__init__()
        _check_dtypes(model)
        device_type = next(model.parameters()).device.type
        deepspeed: Any = import_deepspeed(device_type)
        self.inner = _ModelUnderAutocast(model, device_type)
        self.updates = DeepSpeedOptimizer(optimizer, reachable, on_norm)
        self.engine, *_ = deepspeed.initialize(
            model=self.inner, optimizer=optimizer, config=settings, dist_init_required=False
        )
        self.updates.engine = self.engine
        self._check_engine(settings["zero_optimization"]["stage"])

    def _check_engine(self, stage: int) -> None:
        """Raise InputError where DeepSpeed made another engine than it was asked for."""
        result = (
            self.engine.zero_optimization_stage(),
            self.engine.dp_world_size,
            self.engine.managed_gradient_accumulation(),
        )
        if result != (stage, process_group.world_size(), False):
            raise InputError(
                f"DeepSpeed made (stage, processes, managed accumulation) = {result}",
                "report this; pass --fsdp meanwhile",
            )

    def forward(self, *inputs: object, **named_inputs: object) -> object:
        """The model's output, under the autocast around this call."""
        device_type = self.inner.device_type
        self.inner.autocast_enabled = torch.is_autocast_enabled(device_type)
        self.inner.autocast_dtype = torch.get_autocast_dtype(device_type)
        output: object = self.engine(*inputs, **named_inputs)
        return output


def _check_dtypes(model: nn.Module) -> None:
    dtypes = {parameter.dtype for parameter in model.parameters()} - {torch.float32}
    if dtypes:
        names = sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise InputError(
            f"DeepSpeed gets float32 weights here, and the model has {', '.join(names)} ones",
            "pass --dtype float32, or --fsdp instead of --deepspeed",
        )


class _ModelUnderAutocast(nn.Module):
    """The model under the autocast around the engine, which silently turns it off inside."""

    def __init__(self, model: nn.Module, device_type: str) -> None:
        super().__init__()
        self.model = model
        self.device_type = device_type
        self.autocast_enabled = False
        self.autocast_dtype = torch.bfloat16

    def forward(self, *inputs: object, **named_inputs: object) -> object:
        """The model's output."""
        dtype, enabled = self.autocast_dtype, self.autocast_enabled
        with torch.autocast(self.device_type, dtype, enabled=enabled):
            output: object = self.model(*inputs, **named_inputs)
            return output


class DeepSpeedOptimizer(torch.optim.Optimizer):
    """The engine's update as an optimiser: it reduces, clips, updates and clears.

    Its state is that of plain AdamW.
    """

    def __init__(
        self,
        plain: torch.optim.Optimizer,
        reachable: set[int],
        on_norm: Callable[[float], object],
    ) -> None:
        self.engine: Any = None
        self.on_norm = on_norm
        self.defaults = plain.defaults
        self.state = plain.state
        self.norm = torch.zeros(())  # of the newest update's gradient, before it was clipped
        # A copy: DeepSpeed drops empty groups from its own list.
        self.param_groups = list(plain.param_groups)
        self.parameters: list[nn.Parameter] = []
        # Plain AdamW's numbers of each group's parameters.
        self.group_numbers: list[list[int]] = []
        for group in self.param_groups:
            first = len(self.parameters)
            self.parameters += group["params"]
            self.group_numbers.append(list(range(first, len(self.parameters))))
            # Plain AdamW leaves alone what no gradient reaches (poolers); flat partitions would
            # let it decay.
            group["params"] = [
                parameter for parameter in group["params"] if id(parameter) in reachable
            ]
        is_updated = [id(parameter) in reachable for parameter in self.parameters]
        self.updated_numbers = [number for number, updated in enumerate(is_updated) if updated]

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of all ranks."""
        self.engine.step()
        norm = float("inf")
        if self.engine.was_step_applied():
            norm = float(self.engine.get_global_grad_norm())
        self.norm.fill_(norm)
        self.on_norm(norm)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing: the update has cleared the gradients."""

    def partitions(self) -> Iterator[Tensor]:
        """This rank's flat partitions, which AdamW updates."""
        optimizer = self.engine.optimizer
        of_stage3 = getattr(optimizer, "fp32_partitioned_groups_flat", None)
        return iter(of_stage3 or optimizer.single_partition_of_fp32_groups)

    def state_dict(self) -> OptimizerState:
        """AdamW's state, whole, on every rank: a collective."""
        groups = []
        for group, numbers in zip(self.param_groups, self.group_numbers):
            settings = {name: value for name, value in group.items() if name != "params"}
            groups.append({**settings, "params": numbers})
        was_used = self.engine is not None and bool(self.state)
        return {
            "state": dict(self._gather_states()) if was_used else {},
            "param_groups": groups,
        }

    def _link_moments(self) -> None:
        """Let ZeRO-1 and 2 know the moments of every parameter.

        They link them after the first group's first update, before those of the others.
        """
        optimizer = self.engine.optimizer
        if hasattr(optimizer, "_hp_optimizer_states_linked"):
            optimizer._hp_optimizer_states_linked = False
            optimizer._lazy_init_hp_params_optimizer_state()

    def _gather_states(self) -> Iterator[tuple[int, Moments]]:
        """(plain AdamW's number, whole state) of each parameter that is updated."""
        from deepspeed.utils import safe_get_full_optimizer_state

        self._link_moments()
        partition = next(self.partitions())
        names, counters = _split_state(self.state[partition])
        for number in self.updated_numbers:
            parameter = self.parameters[number]
            moments = {name: safe_get_full_optimizer_state(parameter, name) for name in names}
            # Copies: AdamW counts steps in place, for each parameter.
            state = {
                name: value.detach().to("cpu", copy=True)
                for name, value in (counters | moments).items()
            }
            yield number, state

    def load_state_dict(self, state: OptimizerState) -> None:
        """Load a whole state, as state_dict gives it or plain AdamW does."""
        from deepspeed.utils import safe_set_full_optimizer_state

        for group, saved in zip(self.param_groups, state["param_groups"]):
            group.update({name: value for name, value in saved.items() if name != "params"})
        if not state["state"]:
            return
        names, counters = _split_state(state["state"][self.updated_numbers[0]])
        for partition in self.partitions():
            # Each partition counts its own steps.
            self.state[partition] = {
                name: value.to(partition.device, copy=True) for name, value in counters.items()
            }
            self.state[partition] |= {name: torch.zeros_like(partition) for name in names}
        self._link_moments()
        for number in self.updated_numbers:
            parameter = self.parameters[number]
            for name in names:
                moment = state["state"][number][name].to(parameter.device)
                safe_set_full_optimizer_state(parameter, moment, name)


def _split_state(state: Moments) -> tuple[list[str], Moments]:
    """(names of the moments, which are shaped as the parameter; other values, as `step`)."""
    names = []
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dim() > 0:
            names.append(name)
    counters = {name: value for name, value in state.items() if name not in names}
    return names, counters


def reachable_parameters(model: nn.Module, output: Tensor) -> set[int]:
    """The ids of parameters that a gradient of `output` reaches.

    In repeated layers all count: an expert may have had no token in this pass.
    """
    reachable: set[int] = set()
    for layer in fsdp.repeated_layers(model):
        reachable.update(map(id, layer.parameters()))
    visited: set[object] = set()
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            reachable.add(id(node.variable))
        waiting += [earlier for earlier, _ in node.next_functions]
    return reachable


def import_deepspeed(device_type: str) -> ModuleType:
    """The library, set up to probe, compile and print nothing."""
    os.environ.setdefault("DS_ACCELERATOR", device_type)
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    warnings.filterwarnings(
        "ignore",
        message=".*(all_gather_into_tensor|reduce_scatter_tensor)",
        category=FutureWarning,
    )
    import deepspeed

    # Shared-memory messages between CPUs are for inference alone, and take two minutes to
    # compile.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    library: ModuleType = deepspeed
    return library
