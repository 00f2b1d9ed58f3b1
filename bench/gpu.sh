#!/usr/bin/env bash
# Everything that is checked on a GPU, on one of them, within 25 minutes; each check is a line of the table in $OUT.
#
#   bench/gpu.sh [MODEL]                               writes bench/results/gpu.md; MODEL: a BERT-like folder
#   ONLY="encode step" MINUTES=9 bench/gpu.sh          some checks, in less time; OUT=FILE names the page
#   PATIENCE=5 …                                       each check has five times its seconds
#   DEVICE=cpu SIZE=tiny bench/gpu.sh                  without a GPU: what runs anywhere, in small, to build/bench/gpu.md
#
# Without MODEL: random weights (bench/gpu_inputs.py), no hub. A check that fails says its error, one that needs what is
# not there is skipped with the reason, and the others go on. The third argument of `check` is what it touches:
# tests/house/test_gpu_bench.py holds that every branch for a device is in one of them.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

DEVICE=${DEVICE:-cuda} SIZE=${SIZE:-base} MINUTES=${MINUTES:-25} ONLY=${ONLY:-} PATIENCE=${PATIENCE:-1}
case $DEVICE in
  cpu) OUT=${OUT:-build/bench/gpu.md} ;;
  *) OUT=${OUT:-bench/results/gpu.md} ;;
esac
if [[ $SIZE == tiny ]]; then
  TEXTS=60 ROUNDS=1 BATCH=16 SEARCH=(--texts 5000 --queries 200 --cpu-queries 200)
else
  TEXTS=4000 ROUNDS=3 BATCH=512 SEARCH=(--texts 1000000 --queries 10000)
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true PYTHONWARNINGS=ignore

WORK=$(mktemp -d) || exit
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$(dirname "$OUT")"
touch "$WORK/table" "$WORK/details"
failures=0

last_line() { # of a file: what went wrong stands above its fix
  grep -v -e '^ *fix: ' -e '^ *$' "$1" | tail -n 1 | cut -c -200
}

check() { # NAME SECONDS "FILES" COMMAND...
  local name=$1 limit=$(($2 * PATIENCE)) touches=$3 begin=$SECONDS left=$((MINUTES * 60 - SECONDS)) code outcome
  shift 3
  [[ -z $ONLY || " $ONLY " == *" $name "* ]] || return 0
  local out=$WORK/$name.out err=$WORK/$name.err
  touch "$out" "$err"
  if ((left < 5)); then
    outcome="not run: the $MINUTES minutes are over" code=1
  else
    timeout --kill-after=5 "$((limit < left ? limit : left))" "$@" >"$out" 2>"$err" </dev/null
    code=$?
    case $code in
      0) outcome=$(last_line "$out" | grep -v '^|') && outcome="ok. $outcome" || outcome=ok ;;
      77) outcome="skipped: $(last_line "$out")" ;;
      124 | 137) outcome="stopped after $((SECONDS - begin)) s" ;;
      *) outcome="failed: $(last_line "$err")" ;;
    esac
  fi
  ((code == 0 || code == 77)) || failures=$((failures + 1))
  echo "| $name | $((SECONDS - begin)) | ${outcome//|/\\|} | ${touches// /, } |" >>"$WORK/table"
  { # the tables that it printed, and the command
    printf '\n## %s\n\n    %s\n\n' "$name" "$*"
    cat "$out"
    ((code == 0 || code == 77)) || tail -n 15 "$err" | sed 's/^/    /'
  } >>"$WORK/details"
  printf '%-10s %4d s  %s\n' "$name" "$((SECONDS - begin))" "$outcome" >&2
}

if [[ $DEVICE != cpu ]] && ! python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "torch reaches no CUDA device; DEVICE=cpu SIZE=tiny $0 runs what needs none" >&2
  exit 1
fi
python bench/gpu_inputs.py "$WORK/in" --size "$SIZE" ${1:+--model "$1"} >&2 || exit
M=$WORK/in/encoder
compare() { check "$@" python bench/gpu_checks.py "$1" "$WORK/in" --device "$DEVICE"; }
step=(python bench/train_step.py --model "$M" --device "$DEVICE" --batch "$BATCH" --rounds "$ROUNDS")

check doctor 60 "fletching_doctor/probes/compute.py fletching_doctor/probes/machine.py fletching_doctor/findings.py" \
  fletching doctor --no-hub
check encode 240 "encode/model.py encode/encoder.py encode/forward_pass.py encode/padding_free.py" \
  python bench/gpu_encode.py --model "$M" --device "$DEVICE" --texts "$TEXTS" --rounds "$ROUNDS"
compare memory 120 "encode/forward_pass.py"
compare replicas 90 "encode/model.py encode/forward_pass.py"
check step 240 "contrast_train/training/gradcache.py contrast_train/training/step_choice.py train/hardware.py" \
  "${step[@]}" --ways ours,mnrl,cached-64
check profile 90 "contrast_train/training/gradcache.py" "${step[@]}" --ways ours --profile
compare training 240 "train/arguments.py contrast_train/training/gradcache.py train/block_dropout.py"
compare fsdp 150 "train/distributed/process_group.py train/hardware.py"
compare zero3 180 "train/distributed/process_group.py train/arguments.py"
compare qlora 180 "train/arguments.py contrast_train/training/step_choice.py"
check search 240 "hnmine/search.py" python bench/gpu_search.py --device "$DEVICE" "${SEARCH[@]}"
compare mining 120 "hnmine/search.py encode/opening.py encode/reranker.py"
check vectors 60 "shards/engines.py shards/engine_run.py" \
  texts2vectors "$WORK/in/texts.jsonl" --model "$M" --device "$DEVICE" --engine local --shards 2 -o "$WORK/vectors.parquet"
check filter 90 "encode/reranker.py" \
  simfilter "$WORK/in/pairs.jsonl" --cross-encoder "$WORK/in/cross-encoder" --keep-top 0.5 --device "$DEVICE" -o "$WORK/kept.parquet"
check distill 120 "fletching_distill/run.py train/arguments.py" \
  distill "$WORK/in/texts.jsonl" --teacher "$M" --model "$M" --device "$DEVICE" --steps 4 --batch 16 -o "$WORK/student"
check mntp 150 "mntp/decoder.py mntp/run.py" \
  mntp "$WORK/in/texts.jsonl" --model "$WORK/in/decoder" --device "$DEVICE" --steps 4 --batch 8 --length 128 -o "$WORK/mntp"
check evaluate 120 "encode/model.py encode/encoder.py" \
  mteb-eval "$M" --examples "$WORK/in/pairs.jsonl" --device "$DEVICE"

{
  echo "# On a GPU"
  echo
  echo "\`${ONLY:+ONLY=\"$ONLY\" }DEVICE=$DEVICE SIZE=$SIZE bench/gpu.sh ${1:+MODEL}\`, $((SECONDS / 60)) minutes."
  python - "$DEVICE" <<'PYTHON'
import platform, sys, torch
name = "no GPU was used"
if sys.argv[1] != "cpu":
    properties = torch.cuda.get_device_properties(sys.argv[1])
    name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
print(f"{name}; Python {platform.python_version()}, torch {torch.__version__}.\n")
PYTHON
  echo "| check | s | outcome | branches that it reaches |"
  echo "|---|---|---|---|"
  cat "$WORK/table" "$WORK/details"
} | sed "s|$WORK|WORK|g" >"$OUT"
echo "$OUT: $failures of $(wc -l <"$WORK/table") checks failed" >&2
exit $((failures > 0))
