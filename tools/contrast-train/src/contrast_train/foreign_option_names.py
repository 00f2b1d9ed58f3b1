"""Options of other trainers by their names there, each with its name here."""

from __future__ import annotations

_ALL_RANKS = "leave it out: negatives of all processes count, and so do their gradients"
# Where the value changes too, or nothing has to be passed.
_TRANSLATED = {
    "train_data": "name the files or folders as inputs, without an option",
    "train_dataset": "name the files or folders as inputs, without an option",
    "dataset_file_path": "name the files or folders as inputs, without an option",
    "data_root_dir": "name the folder as an input, without an option: each file in it is a task",
    "gradient_checkpointing_enable": "gradient-checkpointing",
    "fp16": "dtype: bfloat16; float16 loses small gradients",
    "bf16": "dtype: bfloat16",
    "mixed_precision": "dtype: bfloat16",
    "torch_dtype": "dtype",
    "negatives_cross_device": _ALL_RANKS,
    "all_gather": _ALL_RANKS,
    "do_grad_cache": "leave it out: GradCache starts where a batch outgrows --activations",
    "gradient_accumulation_steps": "a larger batch: memory does not grow with it; "
    "accumulate keeps batches apart",
    "chunk_sizes": "batch-tokens, in tokens",
    "sub_batch_size": "batch-tokens, in tokens",
    "mini_batch_size": "batch-tokens, in tokens",
    "shuffle": "leave it out: rows are shuffled by seed",
    "normlized": "similarity: cosine or dot",
    "normalize_embeddings": "similarity: cosine or dot",
    "use_inbatch_neg": "candidates: own, for a row's own negatives alone",
    "train_type": "loss; by default it follows from what the rows carry",
    "loss_class": "loss; by default it follows from what the rows carry",
    "knowledge_distillation": "loss: kl, or infonce+kl",
    "kd_loss_type": "loss: kl, or infonce+kl",
    "loss_scale": "temperature: 1 / scale",
    "scale": "temperature: 1 / scale",
    "overwrite_output_dir": "leave it out: a folder that exists is left alone; remove it first",
    "logging_steps": "leave it out: each step is logged",
    "representation_token_num": "leave it out: a text ends with one end-of-text token",
    "wrap_q_p": 'prompt-template, e.g. "{}\\n", or tasks for prompts by task',
}
_RENAMED = {
    "model_name_or_path": "model",
    "peft_model_name_or_path": "model: the folder that mntp wrote",
    "output_dir": "output",
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "stop_after_n_steps": "steps",
    "per_device_train_batch_size": "batch: the rows of a global batch, whatever the devices",
    "train_batch_size": "batch",
    "batch_size": "batch: the rows of a global batch, whatever the devices",
    "query_max_len": "query-length",
    "query_max_length": "query-length",
    "passage_max_len": "doc-length",
    "doc_max_length": "doc-length",
    "max_seq_length": "query-length and doc-length",
    "model_max_length": "query-length and doc-length",
    "train_group_size": "negatives: one less",
    "neg_nums": "negatives",
    "n_hard_negative": "negatives",
    "query_instruction_for_retrieval": "query-prompt",
    "passage_instruction_for_retrieval": "doc-prompt",
    "query_instruction_format": "prompt-template",
    "warmup_steps": "warmup",
    "warmup_ratio": "warmup",
    "warmup_proportion": "warmup",
    "lr_scheduler_type": "schedule",
    "max_grad_norm": "clip",
    "save_steps": "save-every",
    "eval_steps": "eval-every",
    "save_total_limit": "keep-checkpoints",
    "num_max_checkpoints": "keep-checkpoints",
    "val_dataset": "eval",
    "dataloader_drop_last": "drop-last",
    "batch_same_task": "mix-tasks: the opposite",
    "same_dataset_within_batch": "mix-tasks: the opposite",
    "sentence_pooling_method": "pooling",
    "pooling_mode": "pooling",
    "use_mrl": "matryoshka: the dimensions",
    "mrl_dims": "matryoshka",
    "simcse_dropout": "dropout",
    "margin": "triplet-margin",
    "min_score": "min-pos-score",
    "use_lora": "lora",
    "lora_r": "lora-rank",
}


def _translated(answer: str) -> str:
    return answer if answer.startswith(("name ", "leave ")) else f"use {answer}"


FOREIGN_NAMES = {theirs: _translated(answer) for theirs, answer in _TRANSLATED.items()}
FOREIGN_NAMES |= {theirs: f"its name here is {ours}" for theirs, ours in _RENAMED.items()}
