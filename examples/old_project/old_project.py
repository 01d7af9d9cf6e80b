# %% [markdown]
# # An old project, for use today
#
# From a prototxt and a caffemodel of 2013 to the present format, and on to ONNX, which other
# programs read. Nets of that time are also read as they are; upgrading is for editing them.
#
#     python examples/old_project/old_project.py

# %%
import argparse
from pathlib import Path

import numpy as np
from google.protobuf import text_format

import caffe
from caffe.command import upgrade
from caffe.proto import caffe_pb2
from relaybp.commands import export_onnx
from relaybp.data_prep.digits import draw_digits

options = argparse.ArgumentParser()
options.add_argument("--out", type=Path, default=Path("data/examples/old_project"))
options, _ = options.parse_known_args()
options.out.mkdir(parents=True, exist_ok=True)
HERE = Path(__file__).parent if "__file__" in globals() else Path("examples/old_project")
OLD_NET, OLD_WEIGHTS = str(HERE / "digits_v0.prototxt"), str(options.out / "digits_v0.caffemodel")
NET, WEIGHTS = str(options.out / "digits.prototxt"), str(options.out / "digits.caffemodel")

# %% [markdown]
# ## The weights of that time
# A binary file of the same format, V0. You have yours; here its numbers are drawn.

# %%
SHAPES = {"conv1": (8, 1, 5, 5), "conv2": (16, 4, 5, 5), "ip": (1, 1, 10, 400)}
old = text_format.Parse(Path(OLD_NET).read_text(), caffe_pb2.NetParameter())
rng = np.random.RandomState(1)
for connection in old.layers:
    shape = SHAPES.get(connection.layer.name)
    if shape:
        num_output = shape[2] if connection.layer.type == "innerproduct" else shape[0]
        for sides in (shape, (1, 1, 1, num_output)):  # weights and bias, four axes always
            blob = connection.layer.blobs.add()
            blob.num, blob.channels, blob.height, blob.width = sides
            blob.data.extend(rng.normal(0, 0.1, int(np.prod(sides))))
Path(OLD_WEIGHTS).write_bytes(old.SerializeToString())

# %% [markdown]
# ## It is read as it is

# %%
images = draw_digits(4, seed=1)[0] / np.float32(255)


def probabilities(net_file, weights):
    net = caffe.Net(net_file, weights, caffe.TEST)
    net.blobs["data"].reshape(*images.shape)
    return net.forward(data=images)["prob"].copy()


as_it_is = probabilities(OLD_NET, OLD_WEIGHTS)
print(f"{OLD_NET}: {as_it_is.argmax(1)}")

# %% [markdown]
# ## Upgraded
# In a shell: `upgrade_net_proto_text OLD NEW`, `upgrade_net_proto_binary OLD NEW`.

# %%
upgrade.net_text([OLD_NET, NET])
upgrade.net_binary([OLD_WEIGHTS, WEIGHTS])
new = text_format.Parse(Path(NET).read_text(), caffe_pb2.NetParameter())
for layer in new.layer:
    print(f"{layer.type:13} {layer.name:6} {list(layer.bottom)} -> {list(layer.top)}")
upgraded = probabilities(NET, WEIGHTS)
print(f"the same probabilities: {np.array_equal(as_it_is, upgraded)}")

# %% [markdown]
# ## ONNX
# In a shell: `relay export-onnx DEPLOY WEIGHTS NET.onnx`. The first axis, the batch, is free.

# %%
ONNX = str(options.out / "digits.onnx")
export_onnx.main([NET, WEIGHTS, ONNX])

# %%
try:
    import onnxruntime
except ImportError:
    print("pip install onnxruntime compares the two")
else:
    elsewhere = onnxruntime.InferenceSession(ONNX, providers=["CPUExecutionProvider"])
    (found,) = elsewhere.run(["prob"], {"data": images})
    print(f"onnxruntime differs by {np.abs(found - upgraded).max():.1e} at most")
