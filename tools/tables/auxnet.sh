#!/usr/bin/env bash
# AuxNet's comparison on CIFAR: residual networks of several depths, and AuxNets; AuxNet-56-5 by joint
# (_multiloss), pair-wise and multi-way back-propagation.
#   CIFAR10=/lmdbs CIFAR100=/lmdbs bash tools/tables/auxnet.sh              common.sh has the rest
# MODELS="resnet20 auxnet-56-2_relay" trains a part of them.
source "$(dirname "$0")/common.sh"
MODELS=${MODELS:-resnet20 resnet32 resnet44 resnet56 resnet110
  auxnet-44-2_relay auxnet-44-3_relay auxnet-44-4_relay auxnet-44-5_relay auxnet-56-2_relay
  auxnet-56-5_multiloss auxnet-56-5_pair_wise auxnet-56-5_relay auxnet-26-2-wide_relay}

train_one() {  # MODEL DATA NAME; MODEL_pair_wise is MODEL_relay with that schedule
  local base=${1%_pair_wise} relay=$OUT/$3.relay.prototxt
  if [[ $1 == "$base" ]]; then train "$@"; return; fi
  mkdir -p "$OUT"
  sed 's/MULTI_WAY/PAIR_WISE/' "prototxt/$base/relay.prototxt" > "$relay"
  ARGS="${ARGS:-} --relay $relay" train "${base}_relay" "$2" "$3"
}

compare() {  # NAME DATA
  local rows=() model
  for model in $MODELS; do
    train_one $model "$2" $1-$model
    evaluate "$OUT/$1-$model"
    rows+=("$model=$1-$model")
  done
  table "AuxNet, $1" "${rows[@]}"
}

compare CIFAR-10 "${CIFAR10:-}"
if [[ -n ${CIFAR100:-} ]]; then compare CIFAR-100 "$CIFAR100"; fi
