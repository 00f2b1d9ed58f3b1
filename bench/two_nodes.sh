#!/usr/bin/env bash
# Two nodes on one machine, the second of which loses its network in the middle of a run.
#   bash bench/two_nodes.sh CORPUS WORK [CHECKS]      as root, with iproute2 and util-linux; about 15 minutes
# CORPUS has title and text. CHECKS: training, ray_engine; by default both.
# A node is a network namespace with its own address, host name, processes, /tmp and /dev/shm. Both see WORK, which
# is not under /tmp, and the disk, as nodes see a shared file system: a node that was cut off still writes to it.
set -euo pipefail
corpus=$(realpath "$1") work=$2
model=$(python "$(dirname "$0")/../examples/base_model.py")
mkdir "$work" && cd "$work" # a new folder: what lies in an old one would be taken for a result
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$work/token
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
LONGEST=900 # seconds to wait for anything

# --- nodes --------------------------------------------------------------------------------------

set_up() {
  ip link add fletching type bridge
  ip link set fletching up
  for i in 1 2; do
    ip netns add "fletching$i"
    ip link add "fletching$i" type veth peer name eth0 netns "fletching$i"
    ip link set "fletching$i" master fletching up
    ip -n "fletching$i" address add "10.77.0.$i/24" dev eth0
    ip -n "fletching$i" link set eth0 up
    ip -n "fletching$i" link set lo up
  done
}

take_down() { # also what a run that was killed has left
  for i in 1 2; do
    ip netns pids "fletching$i" | xargs -r kill -9
    ip link delete "fletching$i"
    ip netns delete "fletching$i"
  done 2>/dev/null
  ip link delete fletching 2>/dev/null
}

# node I COMMAND…: on node I. The file system of /sys stays: ip netns exec would hide the cgroups.
node() {
  local i=$1
  shift
  # shellcheck disable=SC2016
  nsenter --net="/run/netns/fletching$i" unshare --uts --pid --mount --ipc --fork --mount-proc bash -c '
    hostname "$0"; mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /dev/shm; exec "$@"' "node$i" "$@"
}

wait_for() { # wait_for COMMAND…: until it succeeds
  local until=$((SECONDS + LONGEST))
  until "$@"; do
    [ $SECONDS -lt $until ] || { echo "waited in vain for: $*" >&2; exit 1; }
    sleep 1
  done
}

cut_off_when() { # cut_off_when WORDS LOG: node 2 loses its network when the log says so
  wait_for grep -aqs "$1" "$2"
  ip link set fletching2 down
  echo "node2 is cut off: $(date +%T)"
}

# --- contrast-train under torchrun --------------------------------------------------------------

train() { contrast-train pairs.parquet --model "$model" --batch 32 --steps 30 --save-every 5 --dropout 0 --dtype float32 "$@"; }
export -f train
export model

training() {
  csv2pairs "$corpus" --query title --pos text --limit 1000 -q -o pairs.parquet
  train -q -o undisturbed
  for i in 1 2; do
    node "$i" torchrun --nnodes 1:2 --max-restarts 3 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 10.77.0.1:29500 \
      --no-python bash -c 'train -o disturbed' >"torchrun.$i.log" 2>&1 &
  done
  cut_off_when "training 1[0-9] of" torchrun.1.log
  wait_for test -e disturbed/model.safetensors
  grep "gone\|resuming\| in, " torchrun.1.log
  python - <<'PYTHON'
from safetensors.torch import load_file
one, two = (load_file(f"{name}/model.safetensors") for name in ("undisturbed", "disturbed"))
print("training: largest difference of a weight", max(float((one[k] - two[k]).abs().max()) for k in one))
PYTHON
}

# --- texts2vectors on Ray -----------------------------------------------------------------------

ray_engine() {
  head -c 32 /dev/urandom | base64 | tr -d '/+=' >token
  texts2vectors "$corpus" --model "$model" -q -o one.parquet
  node 1 bash -c "
    ray start --head --node-ip-address 10.77.0.1 --port 6379 --num-cpus 1 --include-dashboard false
    until [ \$(ray status 2>/dev/null | grep -c node_) = 2 ]; do sleep 1; done
    time texts2vectors '$corpus' --model '$model' --engine ray:auto --worker-cores 1 --shards 2 -o two.parquet
    ray stop" >ray.1.log 2>&1 &
  node 2 bash -c "
    until ray start --address 10.77.0.1:6379 --node-ip-address 10.77.0.2 --num-cpus 1; do sleep 1; done
    sleep 1000" >ray.2.log 2>&1 &
  cut_off_when "shard 1/2: encoding" ray.1.log
  wait_for test -e two.parquet
  grep -a "lost\|attempt\| in, \|^real" ray.1.log
  cmp one.parquet two.parquet && echo "Ray: the bytes of one run"
}

take_down || true
trap "take_down || true" EXIT
set_up
for check in ${3:-training ray_engine}; do
  ip link set fletching2 up
  "$check"
done
