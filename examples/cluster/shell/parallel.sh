#!/usr/bin/env bash
# N shards, P at a time, by GNU parallel, which starts a shard that failed again.
# Several machines that share this folder: add --sshloginfile nodes --workdir . --env PATH
#   OPTIONS='--model M' bash parallel.sh corpus.parquet vectors.parquet [N] [P]
set -euo pipefail
input=$1 output=$2 count=${3:-16} at_a_time=${4:-4}

seq 0 $((count - 1)) | parallel -j "$at_a_time" --retries 3 \
  fletching shard "$output.shards" -- texts2vectors "$input" $OPTIONS --shard "{}/$count" || true
fletching status "$output.shards"
fletching join "$output.shards" -o "$output"
