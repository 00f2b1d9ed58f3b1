"""What bench/gpu.sh checks with: random-weight models from their config classes, rows and texts. No hub.

  python bench/gpu_inputs.py FOLDER [--size base|tiny] [--model MODEL]

Writes FOLDER/encoder (BERT; a link to --model, if there is one), FOLDER/decoder (Qwen2),
FOLDER/cross-encoder, FOLDER/pairs.jsonl and FOLDER/texts.jsonl: docstrings and functions of the
running Python's standard library. base: 110 M and 494 M weights. The tokenizer is trained on the
texts, so that their lengths in tokens are as in use.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from encode import standard_library

VOCABULARY = 30_522  # rows of the table of tokens
TRAINED_TOKENS = 8_000
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
           "mask_token": "[MASK]"}  # fmt: skip
ENCODERS = {
    "base": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12),
    "tiny": dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2),
}
DECODERS = {
    "base": dict(hidden_size=896, num_hidden_layers=24, num_attention_heads=14),
    "tiny": dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2),
}
TEXTS = {"base": 4_000, "tiny": 80}
PAIRS = {"base": 2_048, "tiny": 32}
LENGTH = 512


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=list(ENCODERS), default="base")
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    texts = standard_library(2 * PAIRS[args.size] + TEXTS[args.size])
    write_rows(args.folder, texts, size=args.size)
    tokenizer = trained_tokenizer(texts)
    if args.model:
        link = args.folder / "encoder"
        link.unlink(missing_ok=True)
        link.symlink_to(args.model.resolve())
    else:
        save(args.folder / "encoder", "AutoModel", encoder_config(args.size), tokenizer)
    cross_encoder = encoder_config("tiny", num_labels=1)
    save(
        args.folder / "cross-encoder",
        "AutoModelForSequenceClassification",
        cross_encoder,
        tokenizer,
    )
    save(args.folder / "decoder", "AutoModelForCausalLM", decoder_config(args.size), tokenizer)


def write_rows(folder: Path, texts: list[str], *, size: str) -> None:
    """Pairs of neighbours in the library, a docstring and a function as a rule, and texts."""
    count = min(PAIRS[size], len(texts) // 3)
    pairs = [
        {"id": f"r{number}", "query": texts[2 * number], "pos": [texts[2 * number + 1]]}
        for number in range(count)
    ]
    rest = [
        {"id": f"t{number}", "text": text}
        for number, text in enumerate(texts[2 * count :][: TEXTS[size]])
    ]
    for name, rows in (("pairs", pairs), ("texts", rest)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")


def trained_tokenizer(texts: list[str]) -> Any:
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    pieces = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk_token"]))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = list(SPECIAL.values())
    trainer = trainers.WordPieceTrainer(
        vocab_size=TRAINED_TOKENS, special_tokens=special, show_progress=False
    )
    pieces.train_from_iterator(texts, trainer)
    pieces.post_processor = processors.BertProcessing(
        ("[SEP]", pieces.token_to_id("[SEP]")), ("[CLS]", pieces.token_to_id("[CLS]"))
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=pieces, model_max_length=LENGTH, **SPECIAL
    )


def encoder_config(size: str, **more: Any) -> Any:
    import transformers

    sizes = ENCODERS[size]
    return transformers.BertConfig(
        vocab_size=VOCABULARY,
        intermediate_size=4 * sizes["hidden_size"],
        max_position_embeddings=LENGTH,
        **sizes,
        **more,
    )


def decoder_config(size: str) -> Any:
    import transformers

    sizes = DECODERS[size]
    return transformers.Qwen2Config(
        vocab_size=VOCABULARY,
        intermediate_size=11 * sizes["hidden_size"] // 2,
        max_position_embeddings=LENGTH,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        **sizes,
    )


def save(folder: Path, kind: str, config: Any, tokenizer: Any) -> None:
    """A model of random weights, the same each time."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    network = getattr(transformers, kind).from_config(config).float()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
