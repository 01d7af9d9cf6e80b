#!/usr/bin/env bash
# Table 6 of Relay Backpropagation: ResNet-50 and Inception-v3 on ImageNet, single model.
#   DATA=/lmdbs bash tools/tables/relay_table6.sh                           common.sh has the rest
# Inception-v3 wants images of 299 pixels and more: INCEPTION_DATA, where those lie elsewhere.
# Without any DATA it is left out, for the demo scenes are too small.
source "$(dirname "$0")/common.sh"
INCEPTION_DATA=${INCEPTION_DATA:-${DATA:-}}

compare() {  # MODEL DATA SIDES
  for method in "" _relay; do
    train "$1$method" "$2"
    evaluate "$OUT/$1$method"
    multi_scale "$OUT/$1$method" "$3"
  done
  table "Relay BP, Table 6, $1" "standard BP=$1" "Relay BP=$1_relay"
}

compare resnet50 "${DATA:-}" 224,256,320,384,448
if [[ -n $INCEPTION_DATA ]]; then compare inception_v3 "$INCEPTION_DATA" 299,342,426,512; fi
