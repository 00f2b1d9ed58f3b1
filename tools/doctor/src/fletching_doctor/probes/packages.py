"""Installed packages: the tools, the libraries that they use, and requirements that are not met."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PREFIX = "fletching"
# Those whose versions matter in a report of a fault, in the order of a page.
LIBRARIES = (
    "torch", "transformers", "sentence-transformers", "tokenizers", "accelerate", "peft",
    "pyarrow", "polars", "numpy", "mteb", "huggingface-hub", "datasets", "openai",
)  # fmt: skip
# What more an optional package lets a tool do.
EXTRAS = {
    "bm25s": "--bm25 of hnmine and mteb-eval",
    "faiss-cpu": "hnmine --index ivf",
    "bitsandbytes": "4-bit LoRA of contrast-train, on a GPU",
    "deepspeed": "--deepspeed of tools that train",
    "python-calamine": "workbooks of csv2pairs and tune",
    "pypdf": "PDF of docs2texts",
    "python-docx": "Word documents of docs2texts",
    "onnxruntime": "fletching-export --to onnx",
    "openvino": "fletching-export --to openvino",
}


@dataclass(frozen=True, kw_only=True)
class Packages:
    """Versions by name. unmet: sentences on requirements that what is installed does not meet."""

    python: str
    executable: str
    system: str
    tools: dict[str, str]
    libraries: dict[str, str]
    extras: dict[str, str]
    missing_extras: dict[str, str]
    unmet: list[str]


def probe_packages() -> Packages:
    """What the metadata of the installed packages say."""
    installed = _installed()
    tools = {name: installed[name] for name in sorted(installed) if name.startswith(PREFIX)}
    return Packages(
        python=platform.python_version(),
        executable=sys.executable,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        tools=tools,
        libraries={name: installed[name] for name in LIBRARIES if name in installed},
        extras={name: installed[name] for name in EXTRAS if name in installed},
        missing_extras={name: use for name, use in EXTRAS.items() if name not in installed},
        unmet=[line for name in tools for line in _unmet(name, installed)],
    )


def _installed() -> dict[str, str]:
    """Versions by normalized name; the first on the path counts, as for an import."""
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            versions.setdefault(canonicalize_name(name), distribution.version)
    return versions


def _unmet(package: str, installed: dict[str, str]) -> list[str]:
    """The requirements of a package, those of extras left out, that are not met."""
    lines = []
    for text in importlib.metadata.requires(package) or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed.get(canonicalize_name(requirement.name))
        if version is None:
            lines.append(f"{package} needs {requirement.name}, which is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            needed = f"{requirement.name}{requirement.specifier}"
            lines.append(f"{package} needs {needed}, and {version} is installed")
    return lines
