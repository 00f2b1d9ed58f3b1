"""Weights shared out among processes by FSDP2, and whole again for checkpoints (also those of ZeRO-3). Needs torch alone.

A state that is saved is always whole and under the names of the bare model, so that a run may go on with
another number of processes, and a model loads anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: nn.Module, device: torch.device) -> None:
    """FSDP2 in place: each layer is gathered when it computes, the rest with the whole model.

    The whole SentenceTransformer is the root, not the transformer in it: it is what gets called.
    """
    mesh = torch.distributed.init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in repeated_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a transformer: members of the outermost lists of one class."""
    found: list[nn.Module] = []
    for child in model.children():
        members = list(child) if isinstance(child, nn.ModuleList) else []
        if len(members) > 1 and len({type(member) for member in members}) == 1:
            found += members
        else:
            found += repeated_layers(child)
    return found


def is_sharded(model: nn.Module) -> bool:
    return any(
        isinstance(parameter, DTensor) or is_zero3(parameter) for parameter in model.parameters()
    )


def is_zero3(value: Any) -> bool:
    """Is this a parameter that DeepSpeed keeps in parts?"""
    return hasattr(value, "ds_id")


def full_tensor(value: Any) -> Any:
    """The tensor of all ranks, on the CPU. Every rank must call it: it is a collective."""
    if is_zero3(value):
        return _of_zero3(value)
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _of_zero3(parameter: nn.Parameter) -> Tensor:
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters([parameter]):
        return parameter.detach().cpu().clone()


def _put_zero3(parameter: nn.Parameter, value: Tensor) -> None:
    """The masters that an update starts from keep their values: for after the training only."""
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters([parameter], modifier_rank=0):
        parameter.data.copy_(value)


def shard_like(value: Tensor, template: Tensor) -> Tensor:
    """This rank's share of a whole tensor, placed as `template` is."""
    if not isinstance(template, DTensor):
        return value.to(template.device)
    value = value.to(template.device_mesh.device_type)
    return distribute_tensor(value, template.device_mesh, template.placements, src_data_rank=None)


def trained_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that training changes; of tied ones the first name."""
    return (
        (name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad
    )


def full_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every trained parameter, whole. Frozen ones are those of the base model."""
    return {name: full_tensor(parameter).contiguous() for name, parameter in trained_parameters(model)}


@torch.no_grad()
def load_full_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Raises KeyError where trained parameters and the state have not the same names."""
    if missing := {name for name, _ in trained_parameters(model)} ^ set(state):
        raise KeyError(f"weights of another model: {', '.join(sorted(missing)[:3])}")
    for name, parameter in trained_parameters(model):
        if is_zero3(parameter):
            _put_zero3(parameter, state[name])
        else:
            parameter.copy_(shard_like(state[name], parameter))


def full_optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return _mapped(optimizer.state_dict(), lambda number, value: full_tensor(value))


def load_full_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def placed(number: int, value: Any) -> Any:
        moment = (
            isinstance(value, Tensor) and value.shape == parameters[number].shape and value.dim()
        )
        return shard_like(value, parameters[number]) if moment else value

    optimizer.load_state_dict(_mapped(state, placed))


def _mapped(state: dict[str, Any], change: Callable[[int, Any], Any]) -> dict[str, Any]:
    kept = {
        number: {name: change(number, value) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": kept}
