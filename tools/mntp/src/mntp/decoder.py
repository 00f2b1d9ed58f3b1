"""The language model that is to become an encoder: loaded with its head, turned, and looked at."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch

from fletching.encode import model as models
from fletching.errors import InputError, UsageError
from fletching.report import Report
from fletching.train import hardware
from fletching.train.distributed import fsdp, process_group
from mntp import attention, lora


@dataclass
class Decoder:
    """network: the decoder with its head, bidirectional. mask_id: what stands for a masked token."""

    network: Any
    tokenizer: Any
    fingerprint: str
    device: torch.device
    autocast: torch.dtype | None
    stored: torch.dtype  # number type of the checkpoint
    mask_id: int
    adapter: Any = None  # peft's model around network.base_model, where LoRA trains

    @property
    def encoder(self) -> Any:
        return self.network.base_model


def load(options: Any, report: Report) -> Decoder:
    """Raises InputError or Usage where the model cannot be had, has no head, or stays causal."""
    if options.dtype == "float16":
        raise UsageError("--dtype float16 loses small gradients", "use bfloat16 or float32")
    quiet()
    place = hardware.resolve_device(options.device)
    path, stacked = lora.base_of(options.model, options.adapters)
    network = pretrained(path, place, options)
    tokenizer = tokenizer_of(options.model, path, options.trust_remote_code)
    stored = network.dtype
    if options.length > (
        limit := getattr(network.config.get_text_config(), "max_position_embeddings", None)
        or 1 << 20
    ):
        raise UsageError(
            f"--length {options.length} is above the {limit} positions of the model",
            f"pass at most {limit}",
        )
    attention.turn(network)
    for adapter in stacked:
        lora.merge_into(network, adapter)
        report.note(f"adapter {os.path.basename(adapter.rstrip('/'))} merged into the model")
    network.float()
    attention.check(network)
    mask_id = settle_mask_token(network, tokenizer, options.mask_token, report)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "right"
    number_type = models.resolve_dtype(options.dtype, place)
    autocast = number_type if number_type != torch.float32 else None
    fingerprint = models.hash_model(
        network.state_dict(), [], network.config, tokenizer.backend_tokenizer
    )
    return Decoder(network, tokenizer, fingerprint, torch.device(place), autocast, stored, mask_id)


def quiet() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    logging.getLogger("sentence_transformers").setLevel(
        logging.ERROR
    )  # it warns of bfloat16 on CPUs
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def pretrained(path: str, place: str, options: Any) -> Any:
    """The decoder of a folder or hub name with its head, on the CPU. Safetensors only."""
    from transformers import AutoModelForCausalLM

    # On CPUs the backward pass of fused attention is the slower one, and with a mask it saves no memory.
    kernel = options.attention or ("eager" if place == "cpu" else None)
    settings: dict[str, Any] = {"attn_implementation": kernel} if kernel else {}
    network, told = loaded(
        path,
        lambda: AutoModelForCausalLM.from_pretrained(
            path,
            dtype="auto",
            use_safetensors=True,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
            **settings,
        ),
    )
    if told["missing_keys"]:
        lacking = sorted(told["missing_keys"])[0]
        raise InputError(
            f"--model {path} is no whole language model: it lacks {lacking}",
            "name a decoder as it is published, with its language-model head",
        )
    return network.eval()


def loaded(path: str, load: Any) -> Any:
    """Raises InputError in the words of --model for whatever transformers raises."""
    if not os.path.isdir(path) and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise InputError(f"--model {path} is no folder", "check the path")
    try:
        return load()
    except Exception as error:  # the hub and transformers each raise their own
        raise models.load_error(path, error) from error


def tokenizer_of(named: str, base: str, trust_remote_code: bool) -> Any:
    """An adapter's own tokenizer, where its folder has one, else the base model's."""
    from transformers import AutoTokenizer

    own = os.path.isdir(named) and os.path.exists(os.path.join(named, "tokenizer_config.json"))
    path = named if own else base
    found = loaded(
        path, lambda: AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    )
    if not found.is_fast:
        raise InputError(f"--model {path} has a slow tokenizer", "add its tokenizer.json")
    return found


def settle_mask_token(network: Any, tokenizer: Any, wanted: str | None, report: Report) -> int:
    """The id that stands for masked tokens: --mask-token, else the tokenizer's own, else `_`, else its end of text.

    One that the vocabulary lacks is added, with the mean of all embeddings; it is saved with the model.
    """
    text = wanted or next(
        (
            each
            for each in (tokenizer.mask_token, "_", tokenizer.eos_token)
            if each and known(tokenizer, each)
        ),
        None,
    )
    if text is None:
        raise UsageError(
            "the tokenizer has no token to mask with",
            "pass --mask-token '<mask>', which is added to the vocabulary",
        )
    if not known(tokenizer, text):
        tokenizer.add_special_tokens({"mask_token": text})
        with torch.random.fork_rng(devices=[]):
            if len(tokenizer) > network.get_input_embeddings().num_embeddings:
                network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        vectors = network.get_input_embeddings().weight.data
        vectors[tokenizer.mask_token_id] = vectors[: tokenizer.mask_token_id].mean(0)
        report.note(f"mask token {text}: added to the vocabulary")
    else:
        report.note(f"mask token {text}")
    return int(tokenizer.convert_tokens_to_ids(text))


def known(tokenizer: Any, token: str) -> bool:
    return token in tokenizer.get_vocab()


def place(decoder: Decoder, options: Any) -> None:
    """Choose what trains, and put everything on its device in its number type."""
    network = decoder.network
    network.requires_grad_(False)
    if options.lora:
        if decoder.autocast:
            network.to(decoder.autocast)  # what is frozen needs no more
        decoder.adapter = lora.attach(network.base_model, options)
    else:
        head = network.get_output_embeddings().weight
        for parameter in network.base_model.parameters():
            parameter.requires_grad = parameter is not head
    if options.gradient_checkpointing:
        if not getattr(network, "supports_gradient_checkpointing", False):
            raise UsageError(
                f"--gradient-checkpointing: {options.model} does not offer it",
                "leave it out; --batch-tokens bounds the memory too",
            )
        network.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    network.to(decoder.device)


def gathered(decoder: Decoder, objective: Any, options: Any) -> Decoder:
    """The model to save, on the CPU: whole, and what was frozen as it came. Every process must call it."""
    rounded = (
        decoder.adapter is not None and decoder.autocast and decoder.stored != decoder.autocast
    )
    if not (options.fsdp or options.deepspeed or rounded):
        return decoder
    weights = fsdp.full_weights(objective)
    if not process_group.is_main():
        return decoder
    again = replace(
        load(options, Report("mntp", quiet=True)), device=torch.device("cpu"), autocast=None
    )
    place(again, options)
    fsdp.load_full_weights(torch.nn.ModuleDict({"network": again.network}), weights)
    return again


def trained(network: Any) -> tuple[int, int]:
    """(numbers that training changes, all numbers)."""
    each = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return sum(count for count, moves in each if moves), sum(count for count, _ in each)
