"""pycaffe's Detector: class scores of windows in images (R-CNN)."""

import os

import numpy as np

from caffe_plain.errors import CaffeError

from . import io
from .classifier import make_transformer
from .net import Net
from .proto.caffe_pb2 import TEST


class Detector(Net):
    """A net that scores windows; each is warped to the net's input, which must be square.

    context_pad: pixels of the input that show the surroundings of the window; outside the image
    they are the mean.
    """

    def __init__(
        self,
        model_file,
        pretrained_file,
        mean=None,
        input_scale=None,
        raw_scale=None,
        channel_swap=None,
        context_pad=None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.keep_blobs = False
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows):
        """[{"window", "prediction", "filename"}, ...] for (image file, windows) pairs.

        A window is (ymin, xmin, ymax, xmax) in pixels, its ends excluded.
        """
        found = []
        for filename, windows in images_windows:
            image = io.load_image(filename).astype(np.float32)
            found += [
                {"window": window, "filename": filename, "crop": self.crop(image, window)}
                for window in windows
            ]
        name = self.inputs[0]
        batch = np.stack([self.transformer.preprocess(name, item.pop("crop")) for item in found])
        scores = self.forward_all(**{name: batch})[self.outputs[0]]
        for item, prediction in zip(found, scores, strict=True):
            item["prediction"] = prediction
        return found

    def detect_selective_search(self, image_fnames):
        """`detect_windows` on the proposals of the package selective_search_ijcv_with_python."""
        try:
            import selective_search_ijcv_with_python as selective_search
        except ImportError as error:
            raise CaffeError(
                "detect_selective_search needs the package "
                "selective_search_ijcv_with_python (which runs MATLAB); "
                "use detect_windows with windows of your own"
            ) from error
        names = [os.path.abspath(name) for name in image_fnames]
        windows = selective_search.get_windows(names, cmd="selective_search_rcnn")
        return self.detect_windows(zip(names, windows, strict=True))

    def configure_crop(self, context_pad):
        """Set how many pixels of the input show the surroundings of a window."""
        name = self.inputs[0]
        channels, height, width = self.blobs[name].shape[1:]
        self.crop_dims = np.array([height, width, channels])
        self.context_pad = context_pad
        self.crop_mean = np.zeros((height, width, channels), np.float32)
        if name in self.transformer.mean:
            self.crop_mean += self._mean_image(name)

    def _mean_image(self, name):
        """The mean as an image (H, W, K) before the preprocessing."""
        mean = self.transformer.mean[name] / (self.transformer.raw_scale.get(name) or 1)
        if name in self.transformer.channel_swap:
            mean = mean[np.argsort(self.transformer.channel_swap[name])]
        return mean.transpose(1, 2, 0)  # (H, W, K)

    def crop(self, im, window):
        """The window of an image (H, W, K), with its surroundings if there is a context_pad."""
        window = np.array(window).astype(int)
        if not self.context_pad:
            return im[window[0] : window[2], window[1] : window[3]]
        size = self.crop_dims[0]
        half = (window[2:] - window[:2] + 1) / 2
        centre, reach = window[:2] + half, half * size / (size - 2 * self.context_pad)
        box = np.round(np.concatenate([centre - reach, centre + reach])).astype(int)
        ratio = size / (box[2:] - box[:2] + 1)  # pixels of the crop per pixel of the image
        pad = np.round(np.maximum(0, -box[:2]) * ratio).astype(int)
        inside = np.clip(box, 0, np.tile(im.shape[:2], 2))
        top, left, bottom, right = inside
        if bottom <= top or right <= left:
            raise CaffeError(
                f"window {tuple(window)} lies outside of the image, which has "
                f"{im.shape[0]} rows and {im.shape[1]} columns"
            )
        extent = np.round((inside[2:] - inside[:2] + 1) * ratio).astype(int)
        extent = np.minimum(extent, size - pad)
        crop = self.crop_mean.copy()
        crop[pad[0] : pad[0] + extent[0], pad[1] : pad[1] + extent[1]] = io.resize_image(
            im[top:bottom, left:right], extent
        )
        return crop
