"""Draw a few images of two classes, with their list files: python make_images.py OUT"""

import sys
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("dark", "light")
IMAGES = {"train": 40, "val": 16}

out = Path(sys.argv[1])
random = np.random.RandomState(0)
for split, count in IMAGES.items():
    lines = []
    for index in range(count):
        label = index % len(CLASSES)
        name = f"{split}_{index}.png"
        low = 128 * label
        out.mkdir(exist_ok=True)
        cv2.imwrite(str(out / name), random.randint(low, low + 128, (40, 48, 3)).astype(np.uint8))
        lines.append(f"{name} {label}\n")
    (out / f"{split}.txt").write_text("".join(lines))
(out / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
print(f"{sum(IMAGES.values())} images in {out}")
