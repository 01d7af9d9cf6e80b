"""How images are tested: which parts of an image, at which sizes, and which output's scores."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote

from ..errors import RelayError

CROP, DENSE, TEN_CROP, CENTRAL, CROPS_144 = "crop", "dense", "10-crop", "central", "144-crop"
KINDS = {
    CROP: "the TEST phase as it is: the centre crop of each image",
    DENSE: "fully-convolutional: every position of the image at each shorter side, averaged",
    TEN_CROP: "corners and centre of the image's central square, and their mirror images",
    CENTRAL: "the central 87.5 % of each side, resized to the crop's size",
    CROPS_144: "GoogLeNet's 4 sizes x 3 squares x 6 crops x 2 mirror images",
}
# a name for what a paper does: (protocol, what it is)
PAPERS = {
    "vgg": ("dense:224,256,320,384,448", "as Relay BP tests a single model"),
    "resnet": ("dense:224,256,384,480,640", "as ResNet's paper tests for best results"),
    "inception": (CENTRAL, "as Inception's authors test a single crop"),
    "inception-multi": (CROPS_144, "as Inception-v3's paper reports a single model"),
}
_SHORT_SIDES = re.compile(r"[0-9]+(,[0-9]+)*")


@dataclass(frozen=True)
class Protocol:
    """How images are tested; scores are averaged over all that is tested of an image.

    kind: one of KINDS. Their sources:

    - crop, dense: Relay BP (Shen et al., 2016), section 4; dense is VGG's (Simonyan and Zisserman,
      2015, section 3.2), here without the mirror images. Shorter sides {224, 256, 320, 384, 448}.
    - 10-crop: Krizhevsky et al. (2012), section 4.1, which ResNet's paper (He et al., 2016,
      section 3.4) names "standard 10-crop testing"; "for best results" it tests dense, at shorter
      sides {224, 256, 384, 480, 640}. The images are taken as large as they are stored.
    - central: Inception-v3's paper (Szegedy et al., 2016) gives the size of the crop, 299; the
      87.5 % are those of the authors' code (TensorFlow's inception, eval_image), which resizes the
      central region without keeping its proportions.
    - 144-crop: GoogLeNet (Szegedy et al., 2015, section 7): shorter sides 256, 288, 320 and 352 for
      a crop of 224; left, centre and right square (top, centre, bottom); of each its corners, its
      centre and the whole square resized, and their mirror images. Inception-v3's paper reports
      144 crops (18.77 / 4.20) without saying their sizes: they grow here with the crop.

    short_sides: of dense, in pixels. step: of dense, between positions on the net's last map.
    limit: test the first images only. loss: the output that is tested, by the name of its loss
    layer; None: the last one. Raises RelayError for what makes no sense.
    """

    kind: str = CROP
    short_sides: tuple[int, ...] = ()
    step: int = 1
    limit: int | None = None
    loss: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RelayError(f"protocol {self.kind!r}: expected one of {', '.join(KINDS)}")
        if (self.kind == DENSE) != bool(self.short_sides):
            raise RelayError(
                f"protocol {self.kind!r} with shorter sides {list(self.short_sides)}: dense needs "
                "one or more, as in dense:224,256; no other protocol takes any"
            )
        if any(side < 1 for side in self.short_sides):
            raise RelayError(
                f"shorter sides {list(self.short_sides)}: expected numbers of pixels from 1 on"
            )
        if len(set(self.short_sides)) < len(self.short_sides):
            raise RelayError(f"shorter sides {list(self.short_sides)}: one is given twice")
        if self.step < 1 or (self.step > 1 and self.kind != DENSE):
            raise RelayError(f"step {self.step} of {self.kind!r}: only dense takes one, from 1 on")
        if self.limit is not None and self.limit < 1:
            raise RelayError(f"limit {self.limit}: expected 1 image or more, or no limit")

    @classmethod
    def parse(
        cls, text: str, step: int = 1, limit: int | None = None, loss: str | None = None
    ) -> Protocol:
        """The protocol that a command line names: a kind, a paper's name, or "dense:224,256".

        "224,256" alone is dense, too.
        """
        text = PAPERS[text][0] if text in PAPERS else text
        kind, colon, sides = text.partition(":")
        if _SHORT_SIDES.fullmatch(kind) and not colon:
            kind, sides = DENSE, kind
        if kind not in KINDS or (sides and not _SHORT_SIDES.fullmatch(sides)):
            raise RelayError(
                f"protocol {text!r}: expected one of {', '.join([*KINDS, *PAPERS])}; dense with "
                "its shorter sides, as in dense:224,256"
            )
        short_sides = tuple(int(side) for side in sides.split(",")) if sides else ()
        return cls(kind, short_sides, step, limit, loss)

    @property
    def name(self) -> str:
        """A name that can be part of a file's name; two protocols share it if they mean the same.

        crop, dense-224-256, dense-224_step2_limit100_loss-aux_loss, ...
        """
        parts = ["-".join(map(str, (self.kind, *sorted(self.short_sides))))]
        parts += [f"step{self.step}"] if self.step > 1 else []
        parts += [f"limit{self.limit}"] if self.limit else []
        parts += [f"loss-{quote(self.loss, safe='')}"] if self.loss else []
        return "_".join(parts)

    def of(self, records: int) -> Protocol:
        """The protocol on a database of that many records: a limit that leaves none out is none."""
        return replace(self, limit=None) if (self.limit or 0) >= records else self


def explain() -> str:
    """The protocols and the papers' names for them, a line each, for --help."""
    named = {**KINDS, **{name: f"= {text}, {what}" for name, (text, what) in PAPERS.items()}}
    return "\n".join(f"  {name:<16} {what}" for name, what in named.items())
