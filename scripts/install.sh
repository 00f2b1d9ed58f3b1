#!/usr/bin/env bash
# The tools into a virtual environment, in the versions of constraints.txt; `make install` and the Dockerfile run it.
#   scripts/install.sh VENV EXTRAS     EXTRAS of the workspace: demo,run or demo,run,dev
# TORCH=auto|cpu|cuda|default   which build of torch. auto: on Linux without an NVIDIA GPU the one for CPUs, from the
#                               index of PyTorch, else that of the package index. cpu: from the index of PyTorch;
#                               cuda, default: that of the package index, which for Linux on x86 has CUDA.
# PYTHON=python3                the Python of a new environment
# Works with bash 3.2.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
extras=$2
python=${PYTHON:-python3}
torch=${TORCH:-auto}
cpu_index=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}

say() { echo "install: $*"; }

check_python() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && return
  say "Fletching needs Python 3.11 or newer, and $1 is $("$1" -V 2>&1): make install PYTHON=python3.12" >&2
  exit 1
}

has_nvidia_gpu() {
  [ -e /dev/nvidia0 ] || [ -e /dev/dxg ] || { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }
}

version_of_torch() {
  "$venv/bin/python" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null || true
}

# Its dependencies come later, with those of the tools: the index of PyTorch has few versions of them.
install_cpu_torch() {
  local pin
  pin=$(grep '^torch==' constraints.txt)
  say "$1: the CPU build of torch (TORCH=default for the one of the package index)"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --retries 0 --timeout 15 \
    --index-url "$cpu_index" "$pin" 2>/dev/null && return
  say "$cpu_index is not reached: torch comes from the package index"
}

[ -x "$venv/bin/python" ] || { check_python "$python"; "$python" -m venv "$venv"; }
check_python "$venv/bin/python"
if [ -z "$(version_of_torch)" ]; then
  case "$torch" in
    auto)
      if [ "$(uname -s)" = Linux ] && ! has_nvidia_gpu; then install_cpu_torch "no NVIDIA GPU is seen"; fi ;;
    cpu) install_cpu_torch "TORCH=cpu" ;;
    cuda | default) ;;
    *) say "TORCH=$torch is none of auto, cpu, cuda, default" >&2; exit 2 ;;
  esac
elif [ "$torch" != auto ]; then
  say "TORCH=$torch changes nothing: torch $(version_of_torch) is installed; remove it first: pip uninstall torch"
fi
say "the tools into $venv (some minutes the first time, mostly torch)"
set -- -e ./libs/common
for folder in tools/*/pyproject.toml; do set -- "$@" -e "./${folder%/pyproject.toml}"; done
"$venv/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt "$@" -e ".[$extras]"
say "torch $(version_of_torch)"
