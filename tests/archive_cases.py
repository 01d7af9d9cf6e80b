"""Small archives in the official formats, for tests/test_archives.py."""

import io
import pickle
import struct
import tarfile

import cv2
import numpy as np
from scipy import io as matlab

SYNSETS = {"n01440764": 3, "n01443537": 2, "n02084071": 4}  # images to train with
WORDS = {"n01440764": "tench, Tinca tinca", "n01443537": "goldfish", "n02084071": "dog"}
VAL = ["n02084071", "n01440764", "n01440764", "n01443537"]  # of the images in turn
IDS = {"n01440764": 2, "n01443537": 3, "n02084071": 1}


def jpeg(seed):
    """The bytes of a small JPEG."""
    pixels = np.random.RandomState(seed).randint(0, 256, (12, 14, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def tar(files, compression=""):
    """The bytes of a tar of {name: bytes}."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def synset_images():
    """{synset: {file: the bytes of an image}}, what ILSVRC2012_img_train.tar holds."""
    return {
        synset: {f"{synset}_{10 * k}.JPEG": jpeg(k) for k in range(count)}
        for synset, count in SYNSETS.items()
    }


def write(folder, files):
    """Write {name: bytes} into a new folder."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def val_name(k):
    return f"ILSVRC2012_val_{k:08d}.JPEG"


def development_kit():
    """The bytes of ILSVRC2012_devkit_t12.tar.gz: three synsets, and one above them."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "num_children", "num_train_images")
    rows = [
        (IDS[synset], synset, WORDS[synset], 0, SYNSETS[synset])
        for synset in sorted(IDS, key=IDS.get)
    ] + [(4, "n00001740", "entity", 3, 0)]
    synsets = np.zeros((len(rows), 1), [(name, object) for name in fields])
    for at, row in enumerate(rows):
        synsets[at, 0] = row
    meta = io.BytesIO()
    matlab.savemat(meta, {"synsets": synsets}, do_compression=True)
    truth = "".join(f"{IDS[synset]}\n" for synset in VAL)
    folder = "ILSVRC2012_devkit_t12/data/"
    return tar(
        {
            folder + "meta.mat": meta.getvalue(),
            folder + "readme.txt": b"",
            folder + "ILSVRC2012_validation_ground_truth.txt": truth.encode(),
        },
        "gz",
    )


class Python2Pickler(pickle._Pickler):
    """Pickles strings as Python 2 did, which made CIFAR's files."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        text = text if isinstance(text, bytes) else text.encode()
        self.write(pickle.BINSTRING + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_string


def python2_pickle(content):
    out = io.BytesIO()
    Python2Pickler(out, 2).dump(content)
    return out.getvalue().replace(b"numpy._core", b"numpy.core")


def cifar10_python(rows, names):
    """{file: bytes} of the python version; rows: (6, N, 3073) as in the binary version's files."""
    files = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
    content = {
        name: python2_pickle(
            {
                "batch_label": "one of six",
                "labels": part[:, 0].tolist(),
                "data": np.ascontiguousarray(part[:, 1:]),
                "filenames": ["a.png"] * len(part),
            }
        )
        for name, part in zip(files, rows, strict=True)
    }
    content["batches.meta"] = python2_pickle({"label_names": names, "num_vis": 3072})
    return {f"cifar-10-batches-py/{name}": data for name, data in content.items()}


def svhn(folder, name, labels, seed):
    """Write a .mat file of cropped digits; returns its pixels (N, 32, 32, 3)."""
    pixels = np.random.RandomState(seed).randint(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    matlab.savemat(
        folder / name,
        {"X": pixels.transpose(1, 2, 3, 0), "y": np.array(labels, np.uint8)[:, None]},
        do_compression=True,
    )
    return pixels
