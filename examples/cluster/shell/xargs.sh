#!/usr/bin/env bash
# N shards, P at a time, on this machine:  OPTIONS='--model M' bash xargs.sh corpus.parquet vectors.parquet [N] [P]
set -euo pipefail
input=$1 output=$2 count=${3:-16} at_a_time=${4:-4}

seq 0 $((count - 1)) | xargs -P "$at_a_time" -I{} \
  fletching shard "$output.shards" -- texts2vectors "$input" $OPTIONS --shard "{}/$count" || true
fletching status "$output.shards"
fletching join "$output.shards" -o "$output"
