# %% [markdown]
# # Learning LeNet, step by step
#
# As in Caffe's notebook, the net is written in Python, solved step by step, and looked at
# while it learns. The digits are drawn, so that nothing is downloaded.
#
#     python examples/01-learning-lenet/learning_lenet.py [--iterations 200]

# %%
import argparse
from pathlib import Path

import lmdb
import numpy as np

import caffe
from caffe import layers as L
from caffe import params as P
from relaybp.data_prep.digits import draw_digits

options = argparse.ArgumentParser()
options.add_argument("--iterations", type=int, default=200)
options.add_argument("--out", type=Path, default=Path("data/examples/lenet"))
options, _ = options.parse_known_args()
options.out.mkdir(parents=True, exist_ok=True)
caffe.set_random_seed(1)

# %% [markdown]
# ## Data
# LMDBs of Datums, as `convert_mnist_data` makes them of MNIST.


# %%
def write_lmdb(path, images, labels):
    with lmdb.open(str(path), map_size=1 << 26) as database, database.begin(write=True) as writer:
        for k, (image, label) in enumerate(zip(images, labels, strict=True)):
            datum = caffe.io.array_to_datum(image, int(label))
            writer.put(b"%08d" % k, datum.SerializeToString())


write_lmdb(options.out / "train_lmdb", *draw_digits(2000, seed=1))
write_lmdb(options.out / "test_lmdb", *draw_digits(500, seed=2))


# %% [markdown]
# ## The net, by NetSpec


# %%
def lenet(source, batch_size):
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        source=str(source),
        backend=P.Data.LMDB,
        batch_size=batch_size,
        transform_param={"scale": 1 / 255},
        ntop=2,
    )
    xavier = {"type": "xavier"}
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=xavier)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, kernel_size=5, num_output=50, weight_filler=xavier)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool2, num_output=500, weight_filler=xavier)
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=10, weight_filler=xavier)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n.to_proto()


(options.out / "train.prototxt").write_text(str(lenet(options.out / "train_lmdb", 64)))
(options.out / "test.prototxt").write_text(str(lenet(options.out / "test_lmdb", 100)))
(options.out / "solver.prototxt").write_text(f"""
train_net: "{options.out / "train.prototxt"}" test_net: "{options.out / "test.prototxt"}"
test_iter: 5 test_interval: 1000 base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005
lr_policy: "inv" gamma: 0.0001 power: 0.75 display: 100 max_iter: 10000
snapshot_prefix: "{options.out / "lenet"}" """)

# %%
solver = caffe.SGDSolver(str(options.out / "solver.prototxt"))
for name, blob in solver.net.blobs.items():
    print(f"{name:6} {blob.data.shape}")

# %% [markdown]
# ## One step
# Before it, the loss of ten classes is about log(10). After it, conv1's gradient is no longer zero.

# %%
first_loss = float(solver.net.forward()["loss"])
solver.step(1)
first_gradients = solver.net.params["conv1"][0].diff[:, 0].copy()  # (20, 5, 5)
print(f"loss {first_loss:.3f}, log(10) = {np.log(10):.3f}")


# %% [markdown]
# ## A training loop of one's own


# %%
def accuracy_of_test():
    solver.share_weights(solver.test_nets[0])
    right = 0
    for _ in range(5):
        solver.test_nets[0].forward()
        scores, labels = (solver.test_nets[0].blobs[name].data for name in ("score", "label"))
        right += (scores.argmax(1) == labels).sum()
    return right / 500


losses, accuracies = [], {}
for iteration in range(options.iterations):
    solver.step(1)  # as fast as step(n): between two there is only this loop
    losses.append(float(solver.net.blobs["loss"].data))
    if iteration % 25 == 24:
        accuracies[iteration + 1] = accuracy_of_test()
        print(f"{iteration + 1}: loss {losses[-1]:.3f}, accuracy {accuracies[iteration + 1]:.3f}")

# %% [markdown]
# ## The curve of the training

# %%
import matplotlib  # noqa: E402

matplotlib.use("Agg")  # in a notebook leave this line out
import matplotlib.pyplot as plt  # noqa: E402

figure, of_loss = plt.subplots()
of_loss.plot(range(1, len(losses) + 1), losses, color="tab:blue")
of_loss.set(xlabel="iteration", ylabel="training loss (blue)")
of_accuracy = of_loss.twinx()
of_accuracy.plot(accuracies.keys(), accuracies.values(), color="tab:red", marker="o")
of_accuracy.set(ylabel="test accuracy (red)", ylim=(0, 1.05))
figure.savefig(options.out / "curves.png")
plt.close(figure)
print(f"{options.out / 'curves.png'}: accuracy {list(accuracies.values())[-1]:.3f}")
