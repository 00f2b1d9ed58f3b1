"""Encoders: masked language modelling on the user's texts, instead of making them bidirectional.

A model that attends to all tokens already needs no MNTP. What helps it is more pre-training on
texts of the task's domain (DAPT: Gururangan et al. 2020, arXiv 2004.10964), with the loss that it
was made with: each masked token is predicted from the state at its own place (Devlin et al. 2019).
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

import torch

from fletching.errors import InputError, UsageError
from fletching.report import Report
from fletching.train.checkpoint_check import read_json
from mntp import attention, lora

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mntp.options import Options

MODULES = "modules.json"  # of a sentence-transformers folder


def transformer_path(model: str) -> str:
    """Where the transformer of a model is: it may be in a subfolder of the model's."""
    path = lora.file_of(model, MODULES) if os.path.isdir(model) else None
    if path is None or os.path.exists(os.path.join(model, "config.json")):
        return model
    modules: Any = read_json(path) or [{"path": ""}]
    return os.path.join(model, modules[0]["path"])


def has_modules(model: str) -> bool:
    """Is it a sentence-transformers model, whose pooling and further modules are to be kept?"""
    return lora.file_of(model, MODULES) is not None


def is_encoder(path: str, *, trust_remote_code: bool) -> bool:
    """Is it an architecture with a head for masked language modelling, and not set up as a decoder?

    False where the configuration cannot be read: the loader of decoders says what is wrong.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception:  # of many classes, and raised again by the loader
        return False
    is_decoder = getattr(config, "is_decoder", False) or config.is_encoder_decoder
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not is_decoder


def check_options(options: Options) -> None:
    """Raise UsageError for options that are for decoders."""
    if options.steps == 0:
        raise UsageError(
            f"--steps 0, but {options.model} is an encoder: it is bidirectional already",
            "pass steps to train it by masked language modelling, or use it as it is",
        )
    if options.adapters:
        raise UsageError(f"--adapters, but {options.model} is an encoder", "leave them out")
    if not options.lora_merge:
        raise UsageError(
            f"--no-lora-merge, but {options.model} is an encoder, which keeps its modules",
            "leave it out",
        )
    if options.pooling and has_modules(options.model):
        raise UsageError(
            f"--pooling {options.pooling}, but {options.model} has a pooling, which it keeps",
            "leave it out",
        )


def load_network(path: str, options: Options, settings: dict[str, Any]) -> tuple[Any, list[str]]:
    """(the encoder with its head, the weights of the head that are new).

    A head that the checkpoint lacks, as those of embedding models do, depends on the seed alone.
    Raises InputError where other weights are missing.
    """
    from transformers import AutoModelForMaskedLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network, loading_info = AutoModelForMaskedLM.from_pretrained(
            path,
            dtype="auto",
            use_safetensors=True,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
            **settings,
        )
    new = sorted(loading_info["missing_keys"])
    of_encoder = [name for name in new if name.startswith(network.base_model_prefix + ".")]
    if of_encoder:
        raise InputError(
            f"--model {path} is not a whole encoder: it lacks {of_encoder[0]}",
            "name an encoder as it is published",
        )
    return network, new


def report_kind(network: PreTrainedModel, new: list[str], report: Report) -> None:
    """Tell the user what is trained."""
    head = "; its head is new, since the checkpoint has none" if new else ""
    report.note(
        f"{network.config.model_type} is an encoder: masked language modelling (MLM), each masked "
        f"token predicted at its own place{head}"
    )


def head_parameters(network: PreTrainedModel) -> list[torch.nn.Parameter]:
    """The weights of the head that are not those of the encoder: the embeddings may be both."""
    base_model: Any = network.base_model
    of_encoder = {id(parameter) for parameter in base_model.parameters()}
    return [each for each in network.parameters() if id(each) not in of_encoder]


def choose_weights(network: PreTrainedModel, *, all_weights: bool) -> None:
    """Train all weights as DAPT does, or beside LoRA adapters those of the head, in float32."""
    if all_weights:
        network.requires_grad_(True)
        return
    for parameter in head_parameters(network):
        parameter.data = parameter.data.float()
        parameter.requires_grad = True


def can_pack(network: PreTrainedModel, length: int) -> bool:
    """Can texts share a block without changing each other's states?"""
    base_model: Any = network.base_model
    if "position_ids" not in inspect.signature(base_model.forward).parameters:
        return False
    try:
        attention.check_packing(network, length)
    except InputError:
        return False
    return True


def save_trained(
    encoder: PreTrainedModel, folder: str, options: Options, *, stored: torch.dtype
) -> None:
    """Write the encoder as it was published, with its trained weights.

    A sentence-transformers model keeps its modules and prompts; another one is written as a bare
    transformer. Weights that the loss does not see, as a pooler's, stay.
    """
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    trust = options.trust_remote_code
    model = None
    if has_modules(options.model):
        model = SentenceTransformer(
            options.model,
            device="cpu",
            trust_remote_code=trust,
            model_kwargs={"dtype": "auto"},
        )
        transformer: Any = model[0]
        whole: Any = transformer.model
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)  # a pooler that the checkpoint lacks
            whole = AutoModel.from_pretrained(options.model, dtype="auto", trust_remote_code=trust)
    result = whole.load_state_dict(encoder.state_dict(), strict=False)
    assert not result.unexpected_keys
    whole.to(stored)
    if model is None:
        whole.save_pretrained(folder)
    else:
        model.save_pretrained(folder, create_model_card=False)
