# What a stranger does with the installed package, in a folder that holds only this folder's files.
# .ci/wheel runs it; each line must succeed.
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

echo "== the user's own layers.py, tools/ and data_prep/ beside the package"
mkdir -p mine/tools mine/data_prep
touch mine/tools/__init__.py mine/data_prep/__init__.py
cp user_layers.py mine/layers.py
export PYTHONPATH=$PWD/mine
python check_imports.py

echo "== versions and help"
caffe --version | tee versions.txt
grep -q 'caffe version 1.0.0, project version [0-9]' versions.txt
relay --version
relay --help | awk 'length > 80 { print "longer than 80 columns: " $0; exit 1 } { print }'
for command in caffe convert_imageset convert_leveldb convert_mnist_data convert_mnist_siamese_data \
    convert_cifar_data compute_image_mean classification draw_net extract_features \
    parse_log summarize upgrade_net_proto_binary upgrade_net_proto_text upgrade_solver_proto_text; do
  "$command" --help > help.txt 2>&1 || { echo "$command --help failed"; cat help.txt; exit 1; }
done
for command in train evaluate classify plan plot report models reproduce figure build-info export-onnx import-torch; do
  relay "$command" --help > help.txt || { echo "relay $command --help failed"; exit 1; }
done
relay build-info
relay models > models.txt
grep -q "^resnet50 " models.txt

echo "== images to databases"
python make_images.py images
for split in train val; do
  convert_imageset -resize_width=36 -resize_height=36 --classes images/classes.txt \
    images/ images/$split.txt mydata/${split}_lmdb
done
compute_image_mean mydata/train_lmdb mydata/mean.binaryproto

echo "== ten iterations with relay, a test, and what each loss trains"
relay train --model resnet20_relay --data mydata --batch 8 --crop 32 --gpu none --out run \
  --set max_iter=10 --set display=5 --set snapshot=10 --set test_interval=10 \
  --set test_initialization=false --set iter_size=1
test -s run/resnet20_iter_10.caffemodel
relay evaluate run --gpu none
test -s run/errors.csv
relay report run
grep -q resnet20_iter_10.caffemodel run/report.html
relay reproduce table2 --out tables
test -s tables/table2.md
relay plan resnet20_relay --no-picture > plan.txt
python -m relaybp plan vgg19 --no-picture > plan.txt

echo "== as Caffe"
caffe train -solver solver.prototxt
test -s tiny_iter_3.caffemodel
caffe test -model net.prototxt -weights tiny_iter_3.caffemodel -iterations 2
echo "The installed package does all that it should."
