"""SceneData: the papers' data layer, in pycaffe's Python-layer protocol; see layers/README.md.

layer { name: "data" type: "Python" top: "data" top: "label"
        python_param { module: "relaybp.layers.scene_data" layer: "SceneData"
          param_str: 'source: "DATA/train_lmdb" batch_size: 256 class_aware: true '
                     'crop_size: 224 mirror: true mean_file: "DATA/mean.binaryproto"' } }
"""

from __future__ import annotations

import os
import zlib
from typing import Any

import numpy as np

import caffe
from caffe.proto import caffe_pb2
from caffe_plain.cores import usable_cores
from caffe_plain.database import open_database

from . import images, upload
from .class_aware import ClassAware, KeyOrder, ShuffledOrder
from .crops import Cutter
from .datum import read_datum
from .errors import SceneError
from .finish import Finisher
from .record_index import read_index
from .scene_feed import HELD, Feeder
from .scene_message import parse_options
from .scene_pool import Pool
from .scene_worker import pixels_of

try:  # this repository's engine, which has a seed in force
    from caffe import device

    from .mixing import Mixer
except ImportError:  # an original Caffe
    device = Mixer = None


class SceneData(caffe.Layer):
    """Batches from an LMDB of Datums, cut and augmented by worker processes.

    tops: data (batch_size, C, h, w), and labels (batch_size,) if there is a second one, which are
    shares of classes (batch_size, classes) where images are mixed.
    In the TRAIN phase records come class-aware, shuffled or in the order of their keys, each
    process taking its share, and every draw follows from the seed and the record's position. In
    the TEST phase they come in the order of their keys, with a central crop and nothing random.
    param_str: a SceneDataParameter. Never back-propagates.
    """

    _feeder: Feeder | None = None

    def setup(self, bottom: Any, top: Any) -> None:
        if len(bottom) or len(top) not in (1, 2):
            raise SceneError("SceneData takes no bottom and one or two tops: data, and labels")
        self.options = parse_options(self.param_str)
        self.training = self.phase == caffe_pb2.TRAIN
        self.index = read_index(self.options.source)
        record_shape = _first_shape(self.options.source)
        side = self.options.crop_size
        size = (side, side) if side else record_shape[1:]
        self.cutter = Cutter(self.options, self.training, size)
        arrays = (upload.floats, upload.place, upload.host)
        self.finisher = Finisher(self.options, self.cutter, record_shape, *arrays)
        self.shape = (*size, record_shape[0])
        self.mixer = self._mixer(len(top))
        self._order, self._position = None, 0

    def reshape(self, bottom: Any, top: Any) -> None:
        height, width, channels = self.shape
        top[0].reshape(self.options.batch_size, channels, height, width)
        if len(top) == 2:
            classes = (self.mixer.classes,) if self.mixer else ()
            top[1].reshape(self.options.batch_size, *classes)

    def forward(self, bottom: Any, top: Any) -> None:
        try:
            self._feeder = self._feeder or self._start()
            batch = self._feeder.next()
            data, labels = self.finisher(batch.pixels, batch.places, batch.positions), batch.labels
            if self.mixer:
                data, labels = self.mixer(data, labels, batch.positions)
            self._feeder.free_after(upload.mark())
        except Exception:
            self.close()  # the next forward tries again, from the same record
            raise
        self._position = self._feeder.position
        upload.fill_images(top[0], data)
        if len(top) == 2:
            upload.fill_labels(top[1], labels)

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        pass

    @property
    def position(self) -> int:
        """The number of the draw that comes next, over all processes.

        Set it (after the seed) to continue where another run stopped, with the same records, crops,
        mirrors and colours.
        """
        return self._position

    @position.setter
    def position(self, position: int) -> None:
        self.close()
        self._order, self._position = None, int(position)

    def names(self, position: int) -> list[str]:
        """What the records of the batch at `position` are called: their numbers."""
        rank, count = self._share()
        draws = position + rank + count * np.arange(self.options.batch_size)
        return [f"record {record}" for record in self._records().draw(draws)]

    @property
    def left_out(self) -> int:
        """How many damaged records have been replaced by others since the workers started."""
        return self._feeder.pool.left_out if self._feeder else 0

    def close(self) -> None:
        """End the worker processes; the next forward starts others."""
        if self._feeder is not None:
            self._feeder.pool.close()
            self._feeder = None

    def _start(self) -> Feeder:
        options, labels, seed = self.options, self.index.labels, self._seed()
        order, share = self._records(), self._share()
        self.finisher.seed = seed
        if self.mixer:
            self.mixer.seed = seed
        settings = {
            "options": self.param_str,
            "training": self.training,
            "shape": self.shape,
            "slots": options.ahead + HELD,
        }
        workers = options.workers or max(1, usable_cores() // share[1])
        pool = Pool(workers, options.batch_size, settings, f"SceneData ({options.source})")
        upload.pin(pool)
        return Feeder(pool, order, labels, seed, share, self._position)

    def _mixer(self, tops: int) -> Mixer | None:
        """What mixes the images, or None."""
        if not self.training or not (self.options.mixup_alpha or self.options.cutmix_alpha):
            return None
        if device is None:
            raise SceneError("mixup_alpha, cutmix_alpha: this Caffe's losses take no mixed labels")
        if tops != 2:
            raise SceneError("mixup_alpha, cutmix_alpha: a second top is needed, for the labels")
        return Mixer(self.options, self.index.labels, upload.place)

    def _records(self) -> KeyOrder | ShuffledOrder | ClassAware:
        """Which record is at which position."""
        if self._order is None:
            options, labels = self.options, self.index.labels
            if self.training and options.class_aware:
                self._order = ClassAware(labels, self._seed())
            elif self.training and options.shuffle:
                self._order = ShuffledOrder(len(labels), self._seed())
            else:
                self._order = KeyOrder(len(labels))
        return self._order

    def _share(self) -> tuple[int, int]:
        """(rank, count): which of the draws are this process's own."""
        return (caffe.solver_rank(), caffe.solver_count()) if self.training else (0, 1)

    def _seed(self) -> int:
        """The seed in param_str, else one of the engine's seed and the database's own name.

        Not of where the database lies: a run draws alike on every machine.
        """
        if self.options.HasField("seed") or device is None:
            return self.options.seed
        name = os.path.basename(os.path.normpath(self.options.source))
        return device.seed() ^ zlib.crc32(name.encode())


def _first_shape(source: str | os.PathLike) -> tuple[int, int, int]:
    """The (C, H, W) of the first record, which stands for all."""
    environment = open_database(source)
    try:
        with environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            cursor.first()
            datum = read_datum(cursor.value())
            if not datum.encoded:
                return pixels_of(datum).shape
            height, width, channels = images.decode(datum.data).shape
            return channels, height, width
    except ValueError as error:
        raise SceneError(f"source {source}: its first record: {error}; convert it again") from error
    finally:
        environment.close()
