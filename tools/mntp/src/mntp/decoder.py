"""The language model that is trained: loaded with its head, and a decoder made bidirectional."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from fletching.encode import model as models
from fletching.errors import InputError, UsageError
from fletching.report import Report
from fletching.train import hardware
from fletching.train.distributed import fsdp, process_group
from mntp import attention, lora, masked_lm

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from mntp.options import Options

Loaded = TypeVar("Loaded")

NO_LIMIT = 1 << 20  # positions of a model whose configuration names no limit


@dataclass(kw_only=True)
class Decoder:
    """A bidirectional decoder or an encoder with its head, and what decides how it trains.

    autocast: number type of matrix products; None: that of the weights.
    stored: number type of the published checkpoint. mask_id: the token that replaces masked ones.
    adapter: peft's model around `network.base_model`, where LoRA trains.
    is_encoder: it was bidirectional before, so that it trains by MLM (see `mntp.masked_lm`).
    """

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    device: torch.device
    autocast: torch.dtype | None
    stored: torch.dtype
    mask_id: int
    adapter: PeftModel | None = None
    is_encoder: bool = False

    @property
    def encoder(self) -> PreTrainedModel:
        """The decoder without its head."""
        base_model: Any = self.network.base_model
        encoder: PreTrainedModel = base_model
        return encoder

    def weight_counts(self) -> tuple[int, int]:
        """(weights that train, all weights)."""
        parameters = list(self.network.parameters())
        trained = sum(each.numel() for each in parameters if each.requires_grad)
        return trained, sum(each.numel() for each in parameters)


def load(options: Options, report: Report) -> Decoder:
    """The decoder of --model, bidirectional, or the encoder; in float32 on the CPU.

    Raises InputError or UsageError where it cannot be loaded, has no head, or stays causal.
    """
    if options.dtype == "float16":
        raise UsageError("--dtype float16 loses small gradients", "use bfloat16 or float32")
    silence()
    device = hardware.resolve_device(options.device)
    path, adapters = lora.base_of(masked_lm.transformer_path(options.model), options.adapters)
    is_encoder = masked_lm.is_encoder(path, trust_remote_code=options.trust_remote_code)
    if is_encoder:
        masked_lm.check_options(options)
        settings = attention_settings(device, options)
        network, new = call_loader(path, lambda: masked_lm.load_network(path, options, settings))
        masked_lm.report_kind(network, new, report)
    else:
        network = load_network(path, device, options)
    tokenizer = load_tokenizer(options.model, path, trust_remote_code=options.trust_remote_code)
    stored = network.dtype
    check_length(network, options.length)

    if not is_encoder:
        attention.make_bidirectional(network)
    for adapter in adapters:
        lora.merge_into(network, adapter)
        report.note(f"adapter {os.path.basename(adapter.rstrip('/'))} merged into the model")
    untyped: Any = network  # transformers does not annotate float()
    untyped.float()
    attention.check(network)

    mask_id = prepare_mask_token(network, tokenizer, options.mask_token, report=report)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "right"
    backend = getattr(tokenizer, "backend_tokenizer", None)
    dtype = models.resolve_dtype(options.dtype, device)
    # Of an encoder without its head, which may be new.
    hashed: Any = network.base_model if is_encoder else network
    return Decoder(
        network=network,
        tokenizer=tokenizer,
        fingerprint=models.hash_model(
            hashed.state_dict(), [], config=network.config, tokenizer=backend
        ),
        device=torch.device(device),
        autocast=None if dtype == torch.float32 else dtype,
        stored=stored,
        mask_id=mask_id,
        is_encoder=is_encoder,
    )


def silence() -> None:
    """Keep the libraries that load models from printing."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    # It warns of bfloat16 on CPUs.
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    library: Any = transformers_logging
    library.disable_progress_bar()
    library.set_verbosity_error()


def attention_settings(device: str, options: Options) -> dict[str, Any]:
    """The attention kernel, for from_pretrained."""
    # On CPUs the backward pass of fused attention is slower, and with a mask it saves no memory.
    kernel = options.attention or ("eager" if device == "cpu" else None)
    return {"attn_implementation": kernel} if kernel else {}


def load_network(path: str, device: str, options: Options) -> PreTrainedModel:
    """The decoder of a folder or hub name with its head, on the CPU. Safetensors only.

    Raises InputError where the checkpoint has no language-model head.
    """
    from transformers import AutoModelForCausalLM

    settings = attention_settings(device, options)

    def from_pretrained() -> tuple[PreTrainedModel, dict[str, Any]]:
        """(network, which keys were missing)."""
        network_and_info: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype="auto",
            use_safetensors=True,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
            **settings,
        )
        network, loading_info = network_and_info
        return network, loading_info

    network, loading_info = call_loader(path, from_pretrained)
    if loading_info["missing_keys"]:
        missing = sorted(loading_info["missing_keys"])[0]
        raise InputError(
            f"--model {path} is not a whole language model: it lacks {missing}",
            "name a decoder as it is published, with its language-model head",
        )
    network.train(False)
    return network


def call_loader(path: str, load_model: Callable[[], Loaded]) -> Loaded:
    """Call a loader of transformers. Raises InputError, with --model, for whatever it raises."""
    is_path = path.startswith((".", "/", "~")) or path.count("/") > 1
    if is_path and not os.path.isdir(path):
        raise InputError(f"--model {path} is no folder", "check the path")
    try:
        return load_model()
    except Exception as error:  # the hub and transformers raise errors of many classes
        raise models.load_error(path, error) from error


def load_tokenizer(model: str, base: str, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer in the folder `model`, which may be an adapter's; else that of the base model.

    Raises InputError for a slow tokenizer.
    """
    from transformers import AutoTokenizer

    has_tokenizer = os.path.exists(os.path.join(model, "tokenizer_config.json"))
    path = model if has_tokenizer else base
    tokenizer: PreTrainedTokenizerBase = call_loader(
        path, lambda: AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    )
    if not tokenizer.is_fast:
        raise InputError(f"--model {path} has a slow tokenizer", "add its tokenizer.json")
    return tokenizer


def check_length(network: PreTrainedModel, length: int) -> None:
    """Raise UsageError where --length is above the positions of the model."""
    config = network.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or NO_LIMIT
    if length > limit:
        raise UsageError(
            f"--length {length} is above the {limit} positions of the model",
            f"pass at most {limit}",
        )


def prepare_mask_token(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    mask_token: str | None,
    *,
    report: Report,
) -> int:
    """The id of the mask token: --mask-token, else the tokenizer's own, else `_`, else end of text.

    One that is missing from the vocabulary is added to tokenizer and network.
    """
    vocabulary = tokenizer.get_vocab()
    candidates = (tokenizer.mask_token, "_", tokenizer.eos_token)
    known = [str(token) for token in candidates if token and token in vocabulary]
    if not mask_token and not known:
        raise UsageError(
            "the tokenizer has no token to mask with",
            "pass --mask-token '<mask>', which is added to the vocabulary",
        )
    token = mask_token or known[0]
    if token in vocabulary:
        report.note(f"mask token {token}")
    else:
        add_mask_token(network, tokenizer, token)
        report.note(f"mask token {token}: added to the vocabulary")
    mask_id: Any = tokenizer.convert_tokens_to_ids(token)
    return int(mask_id)


def add_mask_token(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, token: str
) -> None:
    """Add a mask token whose embedding is the mean of all others; it is saved with the model."""
    tokenizer.add_special_tokens({"mask_token": token})
    embeddings: Any = network.get_input_embeddings()
    if len(tokenizer) > embeddings.num_embeddings:
        with torch.random.fork_rng(devices=[]):
            network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        embeddings = network.get_input_embeddings()
    vectors: torch.Tensor = embeddings.weight.data
    mask_id: Any = tokenizer.mask_token_id
    vectors[mask_id] = vectors[:mask_id].mean(0)


def prepare_training(decoder: Decoder, options: Options) -> None:
    """Choose the weights that train, and move the decoder to its device in its number type.

    Raises UsageError for --gradient-checkpointing of a model that does not support it.
    """
    network: Any = decoder.network
    network.requires_grad_(False)
    if options.lora:
        if decoder.autocast:
            network.to(dtype=decoder.autocast)  # frozen weights need no more
        decoder.adapter = lora.attach(decoder.encoder, options)
    if decoder.is_encoder:
        masked_lm.choose_weights(network, all_weights=not options.lora)
    elif not options.lora:
        head = network.get_output_embeddings().weight
        for parameter in network.base_model.parameters():
            parameter.requires_grad = parameter is not head  # which may be tied to the input
    if options.gradient_checkpointing:
        if not getattr(network, "supports_gradient_checkpointing", False):
            raise UsageError(
                f"--gradient-checkpointing: {options.model} does not support it",
                "leave it out; --batch-tokens bounds the memory too",
            )
        network.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    network.to(device=decoder.device)


def gather(decoder: Decoder, objective: torch.nn.Module, options: Options) -> Decoder:
    """The model to save, on the CPU: unsharded, with frozen weights as they were loaded.

    Every process must call it.
    """
    is_sharded = options.fsdp or options.deepspeed
    was_rounded = decoder.adapter and decoder.autocast and decoder.stored != decoder.autocast
    if not (is_sharded or was_rounded):
        return decoder
    weights = fsdp.full_weights(objective)
    if not process_group.is_main():
        return decoder
    loaded = load(options, Report("mntp", quiet=True))
    gathered = replace(loaded, device=torch.device("cpu"), autocast=None)
    prepare_training(gathered, options)
    # The names of the objective's parameters.
    fsdp.load_full_weights(torch.nn.ModuleDict({"network": gathered.network}), weights)
    return gathered
