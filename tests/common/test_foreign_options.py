"""Options of other programs: answered with ours by every tool, and whole configs translated."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from suite import COMMANDS

from fletching import config_translation
from fletching.errors import UsageError
from fletching.foreign_configs import of_script
from fletching.foreign_option_names import TABLE, find_counterpart
from fletching.options import describe
from fletching.parsing import parse

TRAINERS = ("contrast-train", "mntp", "distill")


def options_of(tool: str) -> type:
    return importlib.import_module(f"{COMMANDS[tool].module}.cli").TOOL.options


def answer(tool: str, *words: str) -> str:
    """The fix for words that are no options of the tool."""
    with pytest.raises(UsageError) as refused:
        parse(options_of(tool), list(words))
    return refused.value.fix


# --- one name --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "word", "fix"),
    [
        ("csv2pairs", "--data_path", "name FILE without an option"),
        ("csv2pairs", "--desc_col", "its name here is --query"),
        ("csv2pairs", "--category_col", "its name here is --category"),
        ("csv2pairs", "--positive_cols", "its name here is --pos"),
        ("contrast-train", "--positive_cols", "csv2pairs FILE --query COL --pos COL"),
        ("csv2pairs", "--positive", "its name here is --pos"),
        ("csv2pairs", "--output_unsupervised", "its name here is --texts-out"),
        ("csv2pairs", "--num_negatives", "its name here is --negatives"),
        ("simfilter", "--model_path", "its name here is --model"),
        ("simfilter", "--sim_threshold", "its name here is --min-sim"),
        ("simfilter", "--out_file_path", "its name here is --output"),
        ("simfilter", "--key_x", "columns are named by csv2pairs"),
        ("hnmine", "--model_name_or_path", "its name here is --model"),
        ("hnmine", "--range_for_sampling", "its name here is --range"),
        ("hnmine", "--negative_number", "its name here is --negatives"),
        ("hnmine", "--candidate_pool", "its name here is --corpus"),
        ("hnmine", "--use_gpu_for_searching", "its name here is --device: cuda"),
        ("hnmine", "--query_instruction_for_retrieval", "its name here is --query-prompt"),
        ("hnmine", "--absolute_margin", "its name here is --score-margin"),
        ("mteb-eval", "--save_folder", "its name here is --results"),
        ("mteb-eval", "--task", "its name here is --tasks"),
        ("mteb-eval", "--model_path", "name MODEL without an option"),
        ("synthgen", "--temperature", "its name here is --sampling-temperature"),
        ("synthgen", "--save_dir", "its name here is --output"),
        ("mntp", "--learning_rate", "its name here is --lr"),
        ("mntp", "--save_steps", "its name here is --save-every"),
        ("mntp", "--mlm_probability", "its name here is --mask-prob"),
        ("mntp", "--max_seq_length", "its name here is --length"),
        ("distill", "--teatch_emebedding_dim", "its name here is --teacher-dim"),
        ("distill", "--use_mrl", "use matryoshka"),
        ("contrast-train", "--per_device_train_batch_size", "its name here is --batch"),
        ("contrast-train", "--log_with", "its name here is --report-to"),
        ("contrast-train", "--max_seq_length", "--query-length and --doc-length"),
        ("contrast-train", "--do_train", "leave it out"),
        ("contrast-train", "--query_prefix", "its name here is --query-prompt"),
        # an abbreviation, a longer form, a typing error
        ("contrast-train", "--temp", "did you mean --temperature?"),
        ("csv2pairs", "--positve", "did you mean --pos?"),
        ("simfilter", "--decontaminat", "did you mean --decontaminate?"),
        ("contrast-train", "--query_lenght", "did you mean --query-length?"),
    ],
)
def test_a_name_of_another_program_is_answered(tool: str, word: str, fix: str) -> None:
    assert fix in answer(tool, word, "1")


@pytest.mark.parametrize(
    ("tool", "word"),
    [
        ("mntp", "--save_dirs"),
        ("contrast-train", "--step_ratio"),
        ("distill", "--use_ema"),
        ("synthgen", "--save_every"),
        ("hnmine", "--steps"),
    ],
)
def test_what_is_merely_similar_is_no_guess(tool: str, word: str) -> None:
    assert answer(tool, word, "1") == "--help-all lists every option"


@pytest.mark.parametrize("tool", COMMANDS)
def test_every_answer_names_options_that_the_tool_has(tool: str) -> None:
    options = describe(options_of(tool))
    for theirs in TABLE:
        entry = find_counterpart(theirs, options)
        if entry is None:
            continue
        text = entry.describe(options, dashes=True)
        assert text, theirs
        assert all(name in options for name in entry.ours), theirs
        named = {word.strip(":,;()") for word in text.split() if word.startswith("--")}
        flags = {option.flag for option in options.values()}
        assert named <= flags | {"--query", "--pos"}, f"{theirs}: {text}"


def test_all_unknown_options_of_a_line_are_in_one_message() -> None:
    with pytest.raises(UsageError) as refused:
        parse(options_of("simfilter"), ["--model_path", "m", "--key_x=a", "--qiet"])
    assert refused.value.what == "3 unknown options: --model_path, --key_x, --qiet"
    assert "--model_path  its name here is --model\n" in refused.value.fix
    assert "--qiet        did you mean --quiet?" in refused.value.fix


def test_all_unknown_keys_of_a_config_are_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "theirs.json"
    path.write_text('{"learning_rate": 1, "seed": 1, "bf16": true, "frobnicate": 1}')
    with pytest.raises(UsageError) as refused:
        parse(options_of("contrast-train"), ["--config", str(path)])
    assert refused.value.what == f"{path}: 3 unknown options: learning_rate, bf16, frobnicate"
    assert "--translate FILE" in refused.value.fix
    assert "learning_rate  its name here is lr\n" in refused.value.fix
    assert "frobnicate     --help-all lists every option" in refused.value.fix


# --- a whole config --------------------------------------------------------------------------------

LLM2VEC = {
    "model_name_or_path": "org/decoder",
    "peft_model_name_or_path": "org/decoder-mntp",
    "bidirectional": True,
    "pooling_mode": "mean",
    "dataset_name": "E5",
    "dataset_file_path": "cache/data",
    "learning_rate": 2e-4,
    "num_train_epochs": 3,
    "warmup_steps": 300,
    "per_device_train_batch_size": 64,
    "gradient_accumulation_steps": 1,
    "do_train": True,
    "max_seq_length": 512,
    "output_dir": "output/model",
    "save_steps": 200,
    "stop_after_n_steps": 1000,
    "lora_r": 16,
    "gradient_checkpointing": True,
    "torch_dtype": "bfloat16",
    "attn_implementation": "flash_attention_2",
    "seed": 42,
}
MNTP = {
    "model_name_or_path": "org/decoder",
    "train_file": "wiki.txt",
    "validation_file": "wiki-dev.txt",
    "mask_token_type": "blank",
    "data_collator_type": "default",
    "mlm_probability": 0.2,
    "max_seq_length": 512,
    "per_device_train_batch_size": 32,
    "eval_steps": 100,
    "lora_dropout": 0.1,
}
RAG_RETRIEVAL = """
model_name_or_path: "org/encoder"
train_type: "train"
train_dataset: "rows.jsonl"
shuffle: true
neg_nums: 15
query_max_len: 128
passage_max_len: 512
output_dir: "./output"
save_on_epoch_end: 1
num_max_checkpoints: 5
epochs: 2
lr: "2e-5"
batch_size: 32
seed: 666
warmup_proportion: 0.1
temperature: 0.02
mixed_precision: fp16
gradient_accumulation_steps: 3
log_with: tensorboard
use_mrl: false
mrl_dims: "128, 256"
"""
CONRETRIEVER = r"""
# Lora args
use_lora=True
model_name_or_path=org/decoder   # of which tokens the last is pooled
temperature=100
warmup_steps="30"
output_dir=checkpoints/demo
mkdir -p $output_dir
CUDA_VISIBLE_DEVICES=0,1 \
torchrun --nproc_per_node=2 --master_port=42001 train_retriever.py \
    --model_name_or_path $model_name_or_path \
    --data_root_dir training_data/demo \
    --bf16 True --output_dir ${output_dir} --warmup_ratio 0 --warmup_steps $warmup_steps \
    --fsdp "shard_grad_op auto_wrap" --fsdp_transformer_layer_cls_to_wrap 'MistralDecoderLayer' \
    --model_max_length 512 --query_max_length 256 --doc_max_length ${doc:-384} \
    --n_hard_negative 1 --use_lora $use_lora --lora_r 16 --wrap_q_p instruction \
    --temperature $temperature --batch_same_task True --report_to tensorboard \
    | tee -a $output_dir/log.txt
echo done
"""
FLAG_EMBEDDING = r"""
torchrun --nproc_per_node 2 \
-m FlagEmbedding.baai_general_embedding.finetune.run \
--output_dir tuned --model_name_or_path org/encoder --train_data ./toy.jsonl \
--learning_rate 1e-5 --fp16 --num_train_epochs 5 --per_device_train_batch_size 8 \
--dataloader_drop_last True --normlized True --temperature 0.02 --query_max_len 64 \
--passage_max_len 256 --train_group_size 2 --negatives_cross_device --logging_steps 10 \
--save_steps 1000 --query_instruction_for_retrieval ""
"""


def translated(tool: str, path: Path, invoke: Any) -> tuple[Any, str]:
    """(the options that our config gives, its text), by the real command."""
    main = importlib.import_module(f"{COMMANDS[tool].module}.cli").main
    ran = invoke(main, "--translate", path)
    assert ran.rc == 0, ran.err
    ours = path.with_name("ours.yaml")
    ours.write_text(ran.text, "utf-8")
    return parse(options_of(tool), ["--config", str(ours)]), ran.text


def test_llm2vecs_json_is_translated(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "e5.json").write_text(json.dumps(LLM2VEC))
    options, text = translated("contrast-train", tmp_path / "e5.json", invoke)
    assert (options.model, options.inputs, options.output) == (
        "org/decoder-mntp", ("cache/data",), "output/model",
    )  # fmt: skip
    assert (options.steps, options.epochs, options.warmup, options.lr) == (1000, None, 300, 2e-4)
    assert (options.query_length, options.doc_length, options.batch) == (512, 512, 64)
    assert (options.lora, options.lora_rank, options.dtype) == (True, 16, "bfloat16")
    for left in ("num_train_epochs", "do_train", "bidirectional", "attn_implementation"):
        assert f"\n#   {left}: " in text


def test_llm2vecs_mntp_json_is_translated(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "mntp.json").write_text(json.dumps(MNTP))
    options, _ = translated("mntp", tmp_path / "mntp.json", invoke)
    assert (options.inputs, options.eval, options.eval_every) == (
        ("wiki.txt",), "wiki-dev.txt", 100,
    )  # fmt: skip
    assert (options.mask_token, options.masking, options.mask_prob) == ("_", "mlm", 0.2)
    assert (options.length, options.batch, options.lora_dropout) == (512, 32, 0.1)


def test_rag_retrievals_yaml_is_translated(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "training_embedding.yaml").write_text(RAG_RETRIEVAL)
    options, text = translated("contrast-train", tmp_path / "training_embedding.yaml", invoke)
    assert (options.lr, options.epochs, options.batch, options.negatives) == (2e-5, 2, 32, 15)
    assert (options.warmup, options.accumulate, options.keep_checkpoints) == (0.1, 3, 5)
    assert (options.report_to, options.dtype) == (("tensorboard",), "bfloat16")
    assert (options.matryoshka, options.seed) == ((128, 256), 666)
    assert "#   shuffle: true" in text


def test_conretrievers_script_is_translated(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "train.sh").write_text(CONRETRIEVER)
    options, text = translated("contrast-train", tmp_path / "train.sh", invoke)
    assert (options.model, options.output) == ("org/decoder", "checkpoints/demo")
    assert options.inputs == ("training_data/demo",)
    assert options.temperature == 0.01, "they multiply by it"
    assert (options.warmup, options.fsdp, options.mix_tasks) == (30, True, False)
    assert (options.query_length, options.doc_length) == (256, 384)
    assert options.prompt_template == "{}\n"
    assert "nproc_per_node" not in text, "an option of the launcher"


def test_flag_embeddings_flags_are_translated(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "run.sh").write_text(FLAG_EMBEDDING)
    options, text = translated("contrast-train", tmp_path / "run.sh", invoke)
    assert (options.epochs, options.negatives, options.drop_last) == (5, 1, True)
    assert (options.query_length, options.doc_length, options.lr) == (64, 256, 1e-5)
    assert options.dtype == "bfloat16"
    assert "query_instruction_for_retrieval: '' (it has no value)" in text


SAMPLES = st.sampled_from([True, False, 0, 1, 3, 0.5, "", "x", "True", "fp16", "mean", None, [1]])


@pytest.mark.parametrize("tool", TRAINERS)
@settings(max_examples=60)
@given(theirs=st.dictionaries(st.sampled_from([*TABLE, "seed", "frobnicate"]), SAMPLES))
def test_what_is_printed_is_a_config_that_names_every_option(
    tool: str, theirs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("config")
    (folder / "theirs.json").write_text(json.dumps(theirs))
    text = config_translation.translate(str(folder / "theirs.json"), tool, options_of(tool))
    (folder / "ours.yaml").write_text(text)
    ours = yaml.safe_load(text)
    if ours:
        parse(options_of(tool), ["--model", "m", "--config", str(folder / "ours.yaml")])
    for name in theirs:
        assert name in text


def test_words_of_a_script_are_read_as_a_shell_reads_them() -> None:
    script = "a='x y'; python -m m --name \"$a\" --list 1 2 --flag --other=3 # --no 4\n"
    assert of_script(script) == {
        "name": "x y", "list": ["1", "2"], "flag": True, "other": "3",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("missing.sh", None, "No such file"),
        ("empty.sh", "echo nothing\n", "starts no program with options"),
        ("long.sh", "t --a " + "x" * 300_000, "is larger than 256 kB"),
        ("open.sh", "python x.py --a 'b\n", "No closing quotation"),
        ("bad.json", "{", "cannot be parsed"),
    ],
)
def test_a_file_that_is_no_config_is_wrong_usage(
    name: str, content: str | None, what: str, tmp_path: Path, invoke: Any
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    from contrast_train import cli

    ran = invoke(cli.main, "--translate", tmp_path / name)
    assert ran.rc == 2
    assert what in ran.err
