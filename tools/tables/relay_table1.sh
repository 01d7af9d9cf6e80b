#!/usr/bin/env bash
# Table 1 of Relay Backpropagation: deeper plain networks do not help standard BP.
#   IMAGENET=/lmdbs PLACES2=/lmdbs bash tools/tables/relay_table1.sh        common.sh has the rest
source "$(dirname "$0")/common.sh"
SIDES=224,256,320,384,448

for model in vgg13 vgg16 vgg19; do
  train $model "${IMAGENET:-}" imagenet-$model
  evaluate "$OUT/imagenet-$model"
  multi_scale "$OUT/imagenet-$model" $SIDES
done
for model in vgg19 vgg22 vgg25; do
  train $model "${PLACES2:-}" places2-$model
  evaluate "$OUT/places2-$model"
  multi_scale "$OUT/places2-$model" $SIDES
done
table "Relay BP, Table 1, ImageNet" VGG-13=imagenet-vgg13 VGG-16=imagenet-vgg16 VGG-19=imagenet-vgg19
table "Relay BP, Table 1, Places2" VGG-19=places2-vgg19 VGG-22=places2-vgg22 VGG-25=places2-vgg25
