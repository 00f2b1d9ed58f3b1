"""Weights sharded by FSDP2, and whole states of them for checkpoints (also of ZeRO-3).

Needs torch alone. A state that is saved is always whole and under the names of the bare model,
so that a run may resume with another number of processes, and a model loads anywhere. torch's
own `get_model_state_dict` is not used: it gives whole tensors to the first rank alone, knows
nothing of ZeRO-3, and names optimiser states by parameter where ours have plain AdamW's
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

ChangeValue = Callable[[int, object], object]  # (number of the parameter, value) to a value
OptimizerState = dict[str, Any]  # as torch's optimizers give it: state by number, param_groups


def shard(model: nn.Module, device: torch.device) -> None:
    """Apply FSDP2 in place: layers are gathered when they compute, the rest with the model.

    The whole SentenceTransformer is the root, not the transformer in it: it is what gets
    called.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in repeated_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer: members of the outermost module lists of one class."""
    layers: list[nn.Module] = []
    for child in model.children():
        members = list(child) if isinstance(child, nn.ModuleList) else []
        classes = {type(member) for member in members}
        if len(members) > 1 and len(classes) == 1:
            layers += members
        else:
            layers += repeated_layers(child)
    return layers


def is_sharded(model: nn.Module) -> bool:
    """Are weights of this model in parts, by FSDP2 or ZeRO-3?"""
    for parameter in model.parameters():
        if isinstance(parameter, DTensor) or is_zero3(parameter):
            return True
    return False


def is_zero3(value: object) -> TypeGuard[nn.Parameter]:
    """Is this a parameter that DeepSpeed keeps in parts?"""
    return hasattr(value, "ds_id")


def full_tensor(value: Tensor) -> Tensor:
    """The tensor of all ranks, on the CPU. Every rank must call it: it is a collective."""
    if is_zero3(value):
        return _gather_zero3(value)
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.detach().cpu()


def _gather_zero3(parameter: nn.Parameter) -> Tensor:
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters([parameter]):
        return parameter.detach().cpu().clone()


def _load_zero3(parameter: nn.Parameter, value: Tensor) -> None:
    """Load a value after training: the masters that updates start from keep theirs."""
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters([parameter], modifier_rank=0):
        parameter.data.copy_(value)


def shard_like(value: Tensor, template: Tensor) -> Tensor:
    """This rank's part of a whole tensor, sharded and placed as `template` is."""
    if not isinstance(template, DTensor):
        return value.to(template.device)
    value = value.to(template.device_mesh.device_type)
    mesh, placements = template.device_mesh, template.placements
    return distribute_tensor(value, mesh, placements, src_data_rank=None)


def trained_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(name, parameter) of all that training changes; of tied ones the first name."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter


def full_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every trained parameter, whole, by name. Frozen ones are those of the base model."""
    weights = {}
    for name, parameter in trained_parameters(model):
        weights[name] = full_tensor(parameter).contiguous()
    return weights


@torch.no_grad()
def load_full_weights(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load whole weights. Raises KeyError where they are not the trained parameters."""
    names = {name for name, _ in trained_parameters(model)}
    mismatched = names ^ set(state)
    if mismatched:
        raise KeyError(f"weights of another model: {', '.join(sorted(mismatched)[:3])}")
    for name, parameter in trained_parameters(model):
        if is_zero3(parameter):
            _load_zero3(parameter, state[name])
        else:
            parameter.copy_(shard_like(state[name], parameter))


def full_optimizer_state(optimizer: torch.optim.Optimizer) -> OptimizerState:
    """The optimiser's state with whole tensors, on the CPU: a collective."""

    def gather(number: int, value: object) -> object:
        return full_tensor(value) if isinstance(value, Tensor) else value

    return _map_state(optimizer.state_dict(), gather)


def load_full_optimizer_state(optimizer: torch.optim.Optimizer, state: OptimizerState) -> None:
    """Load a whole state; moments are sharded as their parameters are."""
    parameters: list[nn.Parameter] = []
    for group in optimizer.param_groups:
        parameters += group["params"]

    def shard_moment(number: int, value: object) -> object:
        parameter = parameters[number]
        is_moment = isinstance(value, Tensor) and value.dim() and value.shape == parameter.shape
        return shard_like(value, parameter) if is_moment else value  # type: ignore[arg-type]

    optimizer.load_state_dict(_map_state(state, shard_moment))


def _map_state(state: OptimizerState, change: ChangeValue) -> OptimizerState:
    """The state with `change` (number of the parameter, value) applied to every value."""
    changed = {
        number: {name: change(number, value) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": changed}
