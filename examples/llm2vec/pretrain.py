"""A small decoder from nothing: a byte-level BPE tokenizer trained on the texts, and a Llama-shaped language model of 4 million weights
trained on them to predict the next token.

It is the ordinary causal language model that every recipe of this kind starts from, only small enough for one core. With the
same command a stopped run goes on from its newest checkpoint.

  python pretrain.py build/llm2vec/sources/train.jsonl build/llm2vec/decoder [STEPS]
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.trainer_utils import get_last_checkpoint

from fletching.train import hardware

WORDS = 4096  # of the vocabulary
LENGTH = 128  # tokens of a block
BATCH = 16  # blocks
STEPS = 1000
SHAPE = dict(
    hidden_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=64,
    intermediate_size=640,
)


def tokenizer_of(texts: list[str]) -> Any:
    """Runs of blanks, newlines among them, are words like others, so that indentation survives."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=WORDS,
            special_tokens=["<pad>", "</s>"],
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", model_max_length=LENGTH
    )


def decoder_of(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **SHAPE,
        vocab_size=len(tokenizer),
        max_position_embeddings=4 * LENGTH,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        use_cache=False,
    )
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")


class Blocks(torch.utils.data.Dataset):
    """All texts end to end, each closed by the end of text, cut into blocks of LENGTH tokens."""

    def __init__(self, texts: list[str], tokenizer: Any) -> None:
        ids = [
            token
            for text in tokenizer(texts)["input_ids"]
            for token in [*text, tokenizer.eos_token_id]
        ]
        whole = len(ids) // LENGTH
        self.ids = torch.tensor(ids[: whole * LENGTH]).view(whole, LENGTH)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[row], "labels": self.ids[row]}


def main() -> None:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else STEPS
    run = folder.with_name(folder.name + ".run")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    texts = [json.loads(line)["text"] for line in source.read_text(encoding="utf-8").splitlines()]
    tokenizer = tokenizer_of(texts)
    blocks, decoder = Blocks(texts, tokenizer), decoder_of(tokenizer)
    print(
        f"{decoder.num_parameters():,} weights, {blocks.ids.numel():,} tokens, {steps * BATCH / len(blocks):.1f} passes",
        file=sys.stderr,
    )
    arguments = transformers.TrainingArguments(
        str(run),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=2e-3,
        warmup_steps=50,
        lr_scheduler_type="cosine",
        weight_decay=0.1,
        adam_beta2=0.95,
        optim="adamw_torch_fused",
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available() or torch.cpu._is_amx_tile_supported(),
        logging_steps=100,
        save_steps=250,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    trainer = transformers.Trainer(decoder, arguments, train_dataset=blocks)
    hardware.keep_freed_memory()
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(run)) if run.exists() else None)
    decoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.rmtree(run)


if __name__ == "__main__":
    main()
