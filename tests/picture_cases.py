"""One picture, on every way into one net; also read under BVLC Caffe's Python 3.9.

The net scores seven classes by all pixels of the whole picture, minus a mean.
"""

import numpy as np

SIZE = (64, 96)
MEAN = (104.0, 117.0, 123.0)  # of the mean image, the same everywhere
ORIENTATIONS = range(1, 9)
TRANSFORM = 'transform_param {{ mean_file: "{mean}" {more} }}'
DATA = 'type: "Data" data_param {{ source: "{db}" batch_size: 1 backend: LMDB }} ' + TRANSFORM
LAYERS = {  # the text of a data layer: what differs in it
    "Data": (DATA, ""),
    "Data with force_color": (DATA, "force_color: true"),
    "ImageData": (
        'type: "ImageData" image_data_param {{ source: "{list}" batch_size: 1 }} ' + TRANSFORM,
        "",
    ),
    "SceneData": (
        'type: "Python" python_param {{ module: "relaybp.layers.scene_data" layer: "SceneData" '
        'param_str: \'source: "{db}" batch_size: 1 mean_file: "{mean}"\' }}',
        "",
    ),
}
FC = """
layer { name: "same" type: "Power" bottom: "data" top: "same" }
layer { name: "fc" type: "InnerProduct" bottom: "same" top: "fc"
        inner_product_param { num_output: 7 } }
"""
PROB = 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'


def data_layer(name, folder, db="db"):
    """The text of one of LAYERS on the database, the list or the mean image in a folder."""
    text, more = LAYERS[name]
    places = {"db": f"{folder}/{db}", "list": f"{folder}/list.txt", "mean": f"{folder}/mean"}
    text = text.format(more=more, **places)
    return f'layer {{ name: "data" top: "data" top: "label" {text} }}\n'


def write_mean(pb, path):
    """The mean image, as compute_image_mean writes it."""
    blob = pb.BlobProto(num=1, channels=3, height=SIZE[0], width=SIZE[1])
    blob.data.extend(np.repeat(np.float32(MEAN), SIZE[0] * SIZE[1]).tolist())
    with open(path, "wb") as file:
        file.write(blob.SerializeToString())


def fill(net):
    """Give the net its weights; returns it."""
    shape = net.params["fc"][0].data.shape
    net.params["fc"][0].data[...] = np.random.RandomState(5).normal(0, 3e-4, shape)
    net.params["fc"][1].data[...] = 0
    return net


def scores(caffe, path, text):
    """What the net whose data layer is `text` makes of the picture, (7,); path: for its file."""
    with open(path, "w") as file:
        file.write(text + FC + PROB)
    net = fill(caffe.Net(str(path), caffe.TEST))
    net.forward()
    found = np.array(net.blobs["prob"].data[0])
    for layer in net.layers:
        if hasattr(layer, "close"):  # a SceneData's worker processes
            layer.close()
    return found
