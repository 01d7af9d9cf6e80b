#!/usr/bin/env bash
# Relay Backpropagation's comparison on Places2: models A and B, three methods; a single crop, all
# positions at several scales, and (Table 5) the mean of both models' scores.
#   DATA=/lmdbs bash tools/tables/relay_table2.sh                           common.sh has the rest
source "$(dirname "$0")/common.sh"
SIDES=224,256,320,384,448

for model in model_a model_b; do
  for method in "" _multiloss _relay; do
    train $model$method "${DATA:-}"
    evaluate "$OUT/$model$method"
    multi_scale "$OUT/$model$method" $SIDES
  done
done
multi_scale "$OUT/model_a_relay $OUT/model_b_relay" $SIDES
for model in model_a model_b; do
  table "Relay BP, Places2, $model" "standard BP=$model" \
    "multi-loss + standard BP=${model}_multiloss" "Relay BP=${model}_relay"
done
