"""Options of other programs by their names there, each with its counterpart here.

One table for all tools: of several counterparts, the first whose options a tool has is its answer.
The programs: sentence-transformers, FlagEmbedding, Tevatron, LLM2Vec, RAG-Retrieval, ConRetriever
and scripts that make training data from tables.
"""

from __future__ import annotations

from collections.abc import Mapping

from fletching import foreign_option_values as values
from fletching.counterparts import Alternatives, Counterpart, advice, by_name, leave_out, same
from fletching.options.fields import Option

TRAINER = "lr"  # every tool that trains has it
INPUTS = (same("inputs", convert=values.several),)
OUTPUT = (
    same("output", "'{domain}.parquet', with --partition-by domain", needs="partition_by"),
    same("output"),
)
PEFT = (same("adapters", convert=values.several), same("model", "the folder that mntp wrote"))
LOSS_BY_ROWS = (advice("use loss; by default it follows from what the rows carry", needs="loss"),)
NOTHING = (leave_out("nothing here depends on it", needs=TRAINER),)
COLUMNS = (
    advice("columns are named by csv2pairs: csv2pairs FILE --query COL --pos COL", needs="inputs"),
)

FILES: list[tuple[str, Alternatives]] = [
    (
        "train_data train_dataset train_file train_path dataset_path dataset_file_path data_path"
        " folder_path input_file input_path input in",
        INPUTS,
    ),
    (
        "data_root_dir",
        (
            same(
                "inputs", "the folder; each file in it is a task", values.several, needs="task_cap"
            ),
            *INPUTS,
        ),
    ),
    (
        "output_dir output_path output_file output_folder out_file_path output_supervised"
        " save_dir save_path out",
        OUTPUT,
    ),
    ("save_folder", (same("results"), *OUTPUT)),
    ("output_unsupervised", (same("texts_out"),)),
    ("dataset_name dataset_config_name dataset_split", (leave_out("the inputs are files"),)),
    ("data_sample_config", (same("tasks", "a file with the weights", needs=TRAINER),)),
    ("val_dataset eval_dataset eval_data validation_file", (same("eval"), same("examples"))),
    ("cache_path cache_dir", (same("cache"), *NOTHING)),
    (
        "overwrite_output_dir",
        (leave_out("a folder that exists is left alone; remove it first", needs=TRAINER),),
    ),
]

TABLES: list[tuple[str, Alternatives]] = [
    ("desc_col anchor_col anchor query_col query_column", (same("query"), *COLUMNS)),
    (
        "positive_cols positive_col positive_columns positive positives",
        (same("pos", convert=values.several), *COLUMNS),
    ),
    ("negative_col negative_cols neg_col neg_cols hard_negative", (same("neg"), *COLUMNS)),
    ("category_col", (same("category"), *COLUMNS)),
    ("domain_col", (same("domain"),)),
    ("id_col", (same("id"),)),
    ("key_x key_y anchor_column_name positive_column_name", COLUMNS),
]

MODELS: list[tuple[str, Alternatives]] = [
    ("model_name_or_path", (same("model", is_general=True),)),
    ("embedder_name_or_path model_path model_name model_id", (same("model"),)),
    ("peft_model_name_or_path adapter_name_or_path", PEFT),
    ("reranker_name_or_path", (same("reranker"), same("cross_encoder"))),
    ("devices", (same("device"),)),
    ("use_gpu_for_searching", (same("device", "cuda", values.on_gpu),)),
    ("use_fp16", (same("dtype", "float16", values.by_name({"true": "float16"})),)),
    (
        "fp16",
        (same("dtype", "bfloat16; float16 loses small gradients", values.bfloat16, needs=TRAINER),),
    ),
    ("bf16", (same("dtype", "bfloat16", values.bfloat16),)),
    ("mixed_precision torch_dtype", (same("dtype", convert=values.training_dtype),)),
    (
        "pooling_method pooling_mode sentence_pooling_method",
        (same("pooling", convert=values.by_name(values.POOLING_NAMES)),),
    ),
    (
        "representation_id representation_token_num",
        (leave_out("a text ends with one end-of-text token", needs=TRAINER),),
    ),
    ("append_eos_token", (leave_out("--pooling last adds it", needs="pooling"),)),
    ("bidirectional", (leave_out("the model that mntp wrote is bidirectional", needs=TRAINER),)),
    (
        "attn_implementation flash_attention",
        (
            same("attention", "sdpa or eager"),
            leave_out("the fastest kernel is taken", needs=TRAINER),
        ),
    ),
    ("query_max_len query_max_length embedder_query_max_length", (same("query_length"),)),
    (
        "passage_max_len passage_max_length doc_max_length embedder_passage_max_length",
        (same("doc_length"),),
    ),
    (
        "max_seq_length max_length model_max_length",
        (same("length"), same("query_length doc_length", is_general=True)),
    ),
    ("query_instruction_for_retrieval query_prefix", (same("query_prompt"),)),
    ("passage_instruction_for_retrieval passage_prefix", (same("doc_prompt"),)),
    (
        "query_instruction_format query_instruction_format_for_retrieval",
        (same("prompt_template"),),
    ),
    (
        "wrap_q_p",
        (
            same(
                "prompt_template",
                "'{}\\n' for prompts of rows; --tasks for prompts of tasks",
                values.by_name({"instruction": "{}\n"}),
                needs="task_cap",
            ),
            same("prompt_template", "'{}\\n'", values.by_name({"instruction": "{}\n"})),
        ),
    ),
]

TRAINING: list[tuple[str, Alternatives]] = [
    ("num_train_epochs num_epochs", (same("epochs", is_general=True),)),
    ("max_steps num_train_steps stop_after_n_steps", (same("steps", "", values.not_negative),)),
    (
        "per_device_train_batch_size train_batch_size batch_size",
        (
            same("batch", "the rows of a global batch, whatever the devices"),
            same("batch_tokens", "in tokens"),
        ),
    ),
    (
        "gradient_accumulation_steps",
        (
            same(
                "accumulate",
                "keeps batches apart; a larger --batch needs no more memory",
                values.above_one,
            ),
            advice("use a larger batch", needs="batch"),
        ),
    ),
    (
        "chunk_sizes gc_q_chunk_size gc_p_chunk_size sub_batch_size mini_batch_size",
        (advice("use batch-tokens, in tokens", needs="batch_tokens"),),
    ),
    (
        "do_grad_cache grad_cache",
        (leave_out("GradCache starts where a batch outgrows --activations", needs="activations"),),
    ),
    ("learning_rate", (same("lr"),)),
    (
        "warmup_steps warmup_ratio warmup_proportion",
        (same("warmup", convert=values.not_negative),),
    ),
    ("lr_scheduler_type", (same("schedule"),)),
    ("max_grad_norm", (same("clip"),)),
    ("gradient_checkpointing_enable", (same("gradient_checkpointing", convert=values.if_true),)),
    ("save_steps", (same("save_every"),)),
    ("eval_steps", (same("eval_every", "with --eval FILE"),)),
    ("early_stopping_patience", (same("patience", "with --eval FILE"),)),
    ("hardness_strength", (same("hardness_weight"),)),
    ("save_total_limit num_max_checkpoints", (same("keep_checkpoints"),)),
    ("save_on_epoch_end save_strategy", (advice("use save-every, in steps", needs="save_every"),)),
    ("save_only_model", (leave_out("the folder holds the model alone", needs=TRAINER),)),
    (
        "eval_strategy evaluation_strategy do_eval load_best_model_at_end metric_for_best_model",
        (leave_out("with --eval FILE the best weights are kept", needs="eval lr"),),
    ),
    (
        "do_train disable_tqdm remove_unused_columns lazy_preprocess tf32 dataloader_num_workers"
        " run_name logging_dir per_device_eval_batch_size",
        NOTHING,
    ),
    (
        "logging_steps log_interval logging_strategy",
        (leave_out("each step is logged", needs=TRAINER),),
    ),
    ("log_with report_to", (same("report_to", convert=values.several),)),
    ("fsdp", (same("fsdp", "every state is sharded", values.if_named),)),
    (
        "fsdp_transformer_layer_cls_to_wrap fsdp_config",
        (leave_out("--fsdp finds the layers to shard", needs="fsdp"),),
    ),
    ("shuffle", (leave_out("rows are shuffled by --seed", needs=TRAINER),)),
    ("use_lora", (same("lora", convert=values.if_true),)),
    ("lora_r", (same("lora_rank", "with --lora", values.lora_rank),)),
    (
        "lora_dropout",
        (same("lora_dropout"), leave_out("adapters have no dropout here", needs="lora")),
    ),
    ("lora_target_modules", (same("lora_targets", convert=values.several),)),
    ("save_merged_lora_model", (leave_out("adapters are merged", needs="lora_merge"),)),
    ("mlm_probability", (same("mask_prob"),)),
    ("mask_token_type", (same("mask_token", convert=values.mask_token),)),
    ("data_collator_type", (same("masking", "", values.by_name(values.MASKING_NAMES)),)),
    ("line_by_line", (same("lines", convert=values.if_true),)),
    ("train_dataset_vec", (same("vectors", convert=values.several),)),
    (
        "teatch_emebedding_dim teacher_emebedding_dim teacher_embedding_dim",
        (same("teacher_dim"),),
    ),
]

LOSSES: list[tuple[str, Alternatives]] = [
    ("train_group_size", (same("negatives", "one less", values.one_less),)),
    (
        "neg_nums n_hard_negative num_negatives negative_number num_hard_negatives",
        (same("negatives"),),
    ),
    ("dataloader_drop_last", (same("drop_last", convert=values.if_true),)),
    (
        "batch_same_task same_dataset_within_batch",
        (same("mix_tasks", "the opposite", values.off_if_true),),
    ),
    ("max_example_num_per_dataset", (same("task_cap"),)),
    ("batch_sampler", (leave_out("texts that answer a query are masked", needs="task_cap"),)),
    ("multi_dataset_batch_sampler", (advice("use task-temperature", needs="task_temperature"),)),
    (
        "negatives_cross_device negatives_x_device gather_across_devices all_gather",
        (
            leave_out(
                "negatives of all processes count, and so do their gradients", needs="candidates"
            ),
        ),
    ),
    (
        "use_inbatch_neg",
        (advice("use candidates: own, for a row's own negatives alone", needs="candidates"),),
    ),
    (
        "temperature",
        (same("temperature", convert=values.temperature), same("sampling_temperature")),
    ),
    ("scale loss_scale", (same("temperature", "1 / scale", values.inverse),)),
    (
        "normlized normalize_embeddings normalize",
        (same("similarity", "cosine, or dot where it is false", values.similarity),),
    ),
    ("train_type loss_class loss_name", LOSS_BY_ROWS),
    ("knowledge_distillation", (same("loss", "kl, or infonce+kl", values.teacher_loss),)),
    ("kd_loss_type", (advice("use loss: kl, or infonce+kl", needs="loss"),)),
    ("margin", (same("triplet_margin"), same("score_margin"))),
    ("min_score threshold sim_threshold", (same("min_sim"), same("min_pos_score"))),
    ("use_mrl", (advice("use matryoshka: the dimensions", needs="matryoshka"),)),
    ("mrl_dims matryoshka_dims", (same("matryoshka", convert=values.several),)),
    ("simcse_dropout", (same("dropout"),)),
]

MINING: list[tuple[str, Alternatives]] = [
    ("range_for_sampling", (same("range"),)),
    ("range_min range_max", (advice("use range: LOW-HIGH", needs="range"),)),
    ("candidate_pool", (same("corpus", "with --pool-only", values.several, needs="pool_only"),)),
    ("absolute_margin", (same("score_margin"),)),
    ("relative_margin", (same("max_ratio", "1 - margin"),)),
    ("sampling_strategy", (same("sample"),)),
    (
        "search_batch_size faiss_batch_size",
        (leave_out("tiles are sized by the hardware", needs="range"),),
    ),
    ("use_faiss", (same("index", "exact search needs none"),)),
]

SERVERS_AND_TASKS: list[tuple[str, Alternatives]] = [
    ("task task_name task_names", (same("tasks"),)),
    ("benchmark_name", (same("benchmark"),)),
    (
        "api_key openai_api_key",
        (same("api_key_env", "the name of the environment variable that holds the key"),),
    ),
    ("api_base openai_api_base", (same("base_url"),)),
    ("max_new_tokens", (same("answer_tokens"),)),
    ("num_tasks", (same("brainstorm"),)),
    ("num_examples", (same("per_row"),)),
    ("num_workers max_workers num_threads", (same("concurrency"), *NOTHING)),
]

TABLE: Mapping[str, Alternatives] = by_name(
    [*FILES, *TABLES, *MODELS, *TRAINING, *LOSSES, *MINING, *SERVERS_AND_TASKS]
)


def find_counterpart(name: str, options: Mapping[str, Option]) -> Counterpart | None:
    """The counterpart of an option of another program in a tool with these options."""
    entries = TABLE.get(name.lstrip("-").replace("-", "_"), ())
    return next((entry for entry in entries if entry.fits(options)), None)
