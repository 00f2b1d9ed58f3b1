"""Who imports whom: no tool another tool, no room a room above it, nobody in a circle."""

from __future__ import annotations

import pytest
from packaging.utils import canonicalize_name
from source_tree import (
    COMMON,
    DISTRIBUTIONS,
    FOLDERS,
    PACKAGES,
    TOOL_MODULES,
    arrows,
    circles,
    imported,
    modules_of,
    requirements,
    sources,
    third_party,
)
from suite import PROGRAMS, ROOT, Command

every_tool = pytest.mark.parametrize("command", PROGRAMS.values(), ids=PROGRAMS.keys())
every_package = pytest.mark.parametrize("package", PACKAGES)

# The rooms of each package from top to bottom. A module imports from its own floor and those below.
FLOORS: dict[str, list[set[str]]] = {
    "fletching": [
        {"train"},
        {"encode"},
        {"dispatch"},
        {"completion"},
        {"shards"},
        {"cli"},
        {"help", "parsing", "config_translation", "config_text", "config_schema"},
        {"dry_run", "verbose"},
        {"config", "foreign_configs"},
        {"unknown_options"},
        {"foreign_option_names"},
        {"counterparts"},
        {"early_checks", "prompts", "foreign_option_values"},
        {"io"},
        {"protocols"},
        {"training_index", "column_mapping", "score_protection", "titled_texts"},
        {"row_columns"},
        {"digest"},
        {"schema"},
        {"text_keys", "arrow_types", "column_names"},
        {"lineage", "page", "seeded_random", "text"},
        {"options", "report"},
        {"pooling", "qrels", "yaml_text"},
        {"http_client", "server_address", "failures"},
        {"registry", "sentences", "unique_keys"},
        {"table"},
        {"arrays"},
        {"container", "errors", "colour", "links"},
    ],
    "arrowcat": [
        {"cli"},
        {"views"},
        {"page"},
        {"terminal"},
        {"figures"},
        {"rows"},
        {"printable"},
        {"options"},
    ],
    "blend_models": [
        {"cli"},
        {"publishing"},
        {"loaded_models"},
        {"blending"},
        {"options"},
    ],
    "csv2pairs": [
        {"cli"},
        {"pipeline"},
        {"outputs"},
        {"sampling"},
        {"pools"},
        {"links"},
        {"stored_pairs"},
        {"examples"},
        {"keys"},
        {"table", "option_checks"},
        {"options"},
    ],
    "simfilter": [
        {"cli"},
        {"outputs"},
        {"scoring"},
        {"relabel"},
        {"score_columns"},
        {"row_filter"},
        {"criteria"},
        {"pool_rank"},
        {"decontaminate"},
        {"histogram"},
        {"scorers"},
        {"options"},
    ],
    "hnmine": [
        {"cli"},
        {"run"},
        {"candidate_search", "merging", "mine", "output_rows"},
        {"merged_candidates", "mined_negatives", "ranked_pool"},
        {"candidate_files", "int8_overlap"},
        {"domain_search", "hybrid_scores"},
        {"selection"},
        {"guards"},
        {"candidates"},
        {"alternative_search"},
        {"queries"},
        {"pool"},
        {"search", "stored_texts"},
        {"bf16_topk", "bm25", "faiss_library"},
        {"options"},
    ],
    "contrast_train": [
        {"cli", "option_checks"},
        {"api", "run"},
        {"publishing", "training"},
        {"model"},
        {"data"},
        {"losses"},
        {"options"},
    ],
    "fletching_distill": [
        {"cli"},
        {"run"},
        {"publishing", "trainer"},
        {"model_card"},
        {"objective"},
        {"student"},
        {"static_embeddings"},
        {"losses"},
        {"ranking"},
        {"teachers"},
        {"model_teacher", "vector_files"},
        {"targets"},
        {"teacher"},
        {"text_dataset"},
        {"resolved_options"},
        {"options"},
    ],
    "fletching_export": [
        {"cli"},
        {"export", "push"},
        {"export_card", "dataset_card"},
        {"parity"},
        {"retrieval", "speed"},
        {"runtimes"},
        {"graph"},
        {"tokenization"},
        {"sample_texts"},
        {"options"},
    ],
    "docs2texts": [
        {"cli"},
        {"pipeline"},
        {"account", "block_store"},
        {"chunking", "reading"},
        {"formats"},
        {"decoding", "document_format", "files", "repeats", "tokens"},
        {"blocks"},
        {"options"},
    ],
    "texts2pairs": [
        {"cli"},
        {"pipeline"},
        {"ambiguity", "written_queries"},
        {"text_queries"},
        {"code", "prose"},
        {"options"},
    ],
    "texts2vectors": [
        {"cli"},
        {"vector_rows"},
        {"shards", "texts"},
        {"options"},
    ],
    "mntp": [
        {"cli"},
        {"run"},
        {"dry_run", "held_out", "publishing", "trainer"},
        {"model_card"},
        {"objective"},
        {"encoder"},
        {"decoder"},
        {"masked_lm"},
        {"attention", "lora"},
        {"block_plan", "documents", "masking", "token_store"},
        {"options"},
    ],
    "mteb_eval": [
        {"cli"},
        {"run"},
        {"training_overlap"},
        {"evaluation"},
        {"neighbours"},
        {"prompt_consistency", "result_store", "model_variants", "fusion"},
        {"encoder", "bm25"},
        {"system"},
        {"report"},
        {"scoring"},
        {"data"},
        {"options"},
    ],
    "fletching_tune": [
        {"cli"},
        {"run"},
        {"trial"},
        {"final_choice", "publishing", "report_page"},
        {"winner_card"},
        {"contest", "verdict", "report_evidence"},
        {"evaluation", "documents"},
        {"training"},
        {"table", "selection"},
        {"plan", "examples_columns"},
        {"training_shape"},
        {"costs"},
        {"halving", "candidates"},
        {"work_folder", "counts", "budget"},
        {"steps"},
        {"options"},
    ],
    "fletching_doctor": [
        {"cli"},
        {"text"},
        {"examination"},
        {"findings"},
        {"probes", "finding"},
        {"options"},
    ],
    "fletching_synthgen": [
        {"cli"},
        {"run"},
        {"dry_run", "run_summary"},
        {"output"},
        {"diversity", "request_pool"},
        {"jobs"},
        {"settings"},
        {"columns", "request_plan"},
        {"language_check", "text_validation"},
        {"prompts"},
        {"llm"},
        {"options"},
    ],
}


def distribution(module: str) -> str:
    return canonicalize_name(DISTRIBUTIONS.get(module, module))


def declared(folder) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements(folder)}


@every_tool
def test_a_tool_imports_the_standard_library_fletching_what_it_declares_and_itself(
    command: Command,
) -> None:
    for path in sources(command.folder):
        for module in third_party(path) - {command.module}:
            assert module not in TOOL_MODULES, f"{path} imports another tool: {module}"
            assert distribution(module) in declared(command.folder), (
                f"{path} imports {module}, which {command.name} does not declare"
            )


@every_tool
def test_what_a_tool_declares_is_used(command: Command) -> None:
    used = {
        distribution(module) for path in sources(command.folder) for module in third_party(path)
    }
    # What transformers' Trainer imports for us stands in no import of ours.
    indirect = {"accelerate", "datasets", "peft"} if "transformers" in used else set()
    if "torch" in used:
        indirect |= {"onnxscript"}  # what torch.onnx.export imports for us
    if "faiss-cpu" in used:
        indirect |= {"faiss-gpu"}  # the same module, for a GPU
    assert declared(command.folder) - used - indirect == set()


def test_fletching_imports_no_tool_and_only_what_it_declares() -> None:
    for path in sources(COMMON):
        for module in third_party(path) - {"fletching"}:
            assert module not in TOOL_MODULES, f"{path} imports a tool: {module}"
            assert distribution(module) in declared(COMMON), f"{path} imports {module}"


def test_what_tests_and_benchmarks_import_is_declared() -> None:
    """A package that happens to be on the author's machine is missing in a fresh clone."""
    available = set().union(*(declared(folder) for folder in [ROOT, *FOLDERS]))
    rooms = [ROOT / name for name in ("tests", "bench", "examples", "scripts")]
    local = {path.stem for room in rooms for path in room.rglob("*.py")} | TOOL_MODULES
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]:
        for module in third_party(path) - local - {"fletching"}:
            assert distribution(module) in available, (
                f"{path} imports {module}, which no pyproject.toml declares"
            )


def test_only_the_encoder_and_the_trainer_of_fletching_import_torch() -> None:
    for path in sources(COMMON):
        if not {"encode", "train"} & set(path.parts):
            assert not third_party(path) & {"torch", "transformers", "sentence_transformers"}, path


@every_package
def test_no_module_is_in_an_import_circle(package: str) -> None:
    """Imports for type checkers and imports inside functions count."""
    assert circles(arrows(package)) == []


@every_tool
def test_nobody_imports_the_command_line(command: Command) -> None:
    package = command.module
    importers = {name for name, targets in arrows(package).items() if f"{package}.cli" in targets}
    assert importers == set()


@every_tool
def test_the_options_of_a_tool_import_nothing_but_fletching_options(command: Command) -> None:
    path = PACKAGES[command.module] / "options.py"
    assert third_party(path) == {"fletching"}
    ours = {name for name in imported(path) if name.startswith("fletching")}
    assert ours == {"fletching.options"}


@every_package
def test_imports_go_downward_only(package: str) -> None:
    floor_of = {room: number for number, rooms in enumerate(FLOORS[package]) for room in rooms}
    rooms = {name.split(".")[1] for name in modules_of(package) if "." in name}
    assert rooms == set(floor_of), "the floors name each room of the package once"
    for name, targets in arrows(package).items():
        for target in targets:
            if "." in name and "." in target:
                room, below = name.split(".")[1], target.split(".")[1]
                assert floor_of[room] <= floor_of[below], f"{name} imports {target}, a floor above"


def test_a_circle_and_an_arrow_upward_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert circles(graph) == [["b", "c"]]
