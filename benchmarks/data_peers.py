"""The programs that benchmarks/data.py compares: each makes batches on demand and says their cost.

    python data_peers.py NAME SETTINGS

SETTINGS is JSON; each line with a number on stdin asks for that many batches, each answer is the
seconds of CPU time that they took, over all processes and threads. BVLC Caffe's Python runs it,
too.
"""

import json
import os
import sys
import time

import numpy as np

MEAN = (104.0, 117.0, 123.0)
CROP = 224
AHEAD = 3  # batches made in advance, by every peer


def caffe_data(settings):
    """Caffe's Data layer: this project's, or with an original Caffe its own."""
    means = " ".join("mean_value: %g" % value for value in MEAN)
    return caffe_net(
        settings,
        'layer { name: "data" type: "Data" top: "data" top: "label" '
        'data_param { source: "%s" batch_size: %d backend: LMDB prefetch: %d } '
        "transform_param { crop_size: %d mirror: true %s } }"
        % (settings["db"], settings["batch"], AHEAD, CROP, means),
    )


def scene_data(settings):
    """This project's SceneData layer."""
    means = " ".join("mean_value: %g" % value for value in MEAN)
    return caffe_net(
        settings,
        'layer { name: "data" type: "Python" top: "data" top: "label" '
        'python_param { module: "relaybp.layers.scene_data" layer: "SceneData" param_str: '
        '\'source: "%s" batch_size: %d workers: 1 ahead: %d shuffle: true '
        "crop_size: %d mirror: true %s' } }"
        % (settings["db"], settings["batch"], AHEAD, CROP, means),
    )


def caffe_net(settings, text):
    import caffe

    path = os.path.join(settings["folder"], "net%d.prototxt" % os.getpid())
    with open(path, "w") as file:
        file.write(text)
    net = caffe.Net(path, caffe.TRAIN)
    while True:
        net.forward()
        yield


class Records:
    """A dataset for torch's DataLoader: decodes, cuts and mirrors one record at a time.

    make: what the worker makes from the pixels (H, W, C): "floats", "bytes" (both C, H, W) or
    "channels last", the bytes as they are.
    """

    def __init__(self, settings, decoder, make):
        self.path, self.decoder, self.make = settings["db"], decoder, make
        self.environment, self.count = None, settings["records"]

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        import torch

        from caffe.proto import caffe_pb2

        if self.environment is None:
            import cv2
            import lmdb

            cv2.setNumThreads(1)
            self.environment = lmdb.open(self.path, readonly=True, lock=False)
            self.random = np.random.default_rng(index)
            self.mean = torch.tensor(MEAN).reshape(3, 1, 1)
        with self.environment.begin(buffers=True) as transaction:
            datum = caffe_pb2.Datum.FromString(transaction.get(b"%08d_" % index))
        image = self.decode(datum)  # (H, W, C)
        top = int(self.random.integers(image.shape[0] - CROP + 1))
        left = int(self.random.integers(image.shape[1] - CROP + 1))
        image = image[top : top + CROP, left : left + CROP]
        if self.random.random() < 0.5:
            image = self.mirrored(image)
        tensor = torch.from_numpy(np.ascontiguousarray(image))
        if self.make != "channels last":
            tensor = tensor.permute(2, 0, 1).contiguous()
        return (tensor.float().sub_(self.mean) if self.make == "floats" else tensor), datum.label

    def decode(self, datum):
        if not datum.encoded:
            shape = (datum.channels, datum.height, datum.width)
            return np.frombuffer(datum.data, np.uint8).reshape(shape).transpose(1, 2, 0)
        if self.decoder == "opencv":
            import cv2

            return cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_COLOR)
        import io

        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(datum.data)).convert("RGB"))

    @staticmethod
    def mirrored(image):
        if image.flags.c_contiguous or image.strides[2] == 1:
            import cv2

            return cv2.flip(image, 1)
        return image[:, ::-1]


def data_loader(decoder, make):
    """torch's DataLoader, and, on the batch, the steps that its workers left."""

    def batches(settings):
        import torch

        mean = torch.tensor(MEAN).reshape(3, 1, 1)
        row = torch.tensor(MEAN).repeat(CROP)
        loader = torch.utils.data.DataLoader(
            Records(settings, decoder, make),
            settings["batch"],
            shuffle=True,
            num_workers=1,
            persistent_workers=True,
            prefetch_factor=AHEAD,
            drop_last=True,
        )
        shape = (3, CROP, CROP) if make == "bytes" else (CROP, CROP, 3)
        floats = torch.empty(settings["batch"], *shape)  # a new one would cost 200 us an image
        while True:
            for images, _ in loader:
                if make == "bytes":
                    floats.copy_(images).sub_(mean)
                elif make == "channels last":  # rows of pixels, because single ones cost 100 us
                    floats.copy_(images).view(-1, CROP * 3).sub_(row)
                yield

    return batches


PEERS = {
    "SceneData layer": scene_data,
    "Data layer": caffe_data,
    "BVLC Caffe's Data layer": caffe_data,
    **{
        "DataLoader, %s, %s" % (decoder, make): data_loader(decoder.lower(), make)
        for decoder in ("OpenCV", "Pillow")
        for make in ("floats", "bytes", "channels last")
    },
}


def cpu_seconds():
    """CPU time of all threads of this process and its children so far (Linux)."""
    pids, total = [os.getpid()], 0
    while pids:
        pid = pids.pop()
        for task in os.listdir("/proc/%d/task" % pid):
            folder = "/proc/%d/task/%s/" % (pid, task)
            try:
                with open(folder + "schedstat") as file:
                    total += int(file.read().split()[0])
                with open(folder + "children") as file:
                    pids += map(int, file.read().split())
            except OSError:  # a thread that has just ended
                continue
    return total / 1e9


def settled():
    """CPU time once nothing is made in advance any more."""
    before = cpu_seconds()
    while True:
        time.sleep(0.15)
        now = cpu_seconds()
        if now - before < 0.003:
            return now
        before = now


def main():
    name, settings = sys.argv[1], json.loads(sys.argv[2])
    try:
        import torch

        torch.set_num_threads(1)
        # the same allocator for all: without it page faults cost a DataLoader more than decoding
        import caffe

        caffe.keep_freed_memory()
    except ImportError:  # an original Caffe, whose blobs stay where they are
        pass
    batches = PEERS[name](settings)
    for line in sys.stdin:
        start = settled()
        for _ in range(int(line)):
            next(batches)
        print("cost %.6f" % (settled() - start), flush=True)


if __name__ == "__main__":
    main()
