"""Say what is on photos, by the newest net of a run.

    relay classify runs/mine photo.jpg                  the likeliest classes, as bars
    relay classify runs/mine folder/of/photos           the same of each image below it, as a table
    relay classify runs/mine a.jpg b.jpg --csv out.csv

Each image is prepared as those were that the run was tested on: turned upright, resized, cropped,
minus the mean.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys

from caffe_plain.files import write_atomically
from caffe_plain.images import printable
from caffe_plain.trained import files_of

from .. import engines
from ..cli import Parser
from ..evaluation.photos import Answers, classify, list_photos
from ..train_options import positive

BAR, NAME = 32, 24  # characters
EIGHTHS = " ▏▎▍▌▋▊▉█"
COLUMNS = ("class", "score")  # of a table, for each of the likeliest classes


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("run", metavar="RUN", help="a folder that a training run made")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a photo, or a folder of photos")
    parser.add_argument("--weights", help="a .caffemodel; default: the run's newest")
    parser.add_argument("--top", type=positive, default=5, help="how many classes; default: 5")
    parser.add_argument("--csv", help="the table; default for a folder: RUN/classified_FOLDER.csv")
    parser.add_argument("--gpu", default="auto", help="auto, none, or a GPU index")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    trained = files_of(args.run, args.weights)
    paths = [path for image in args.images for path in list_photos(image)]
    table = args.csv or default_table(args.run, args.images)
    engine = engines.load()
    engine.use_device(args.gpu)
    answers = classify(engine.caffe, args.run, trained, paths)
    for path, why in answers.bad.items():
        print(f"left out: {printable(path)}: {why}", file=sys.stderr)
    if table:
        write_table(table, answers, args.top)
        print(f"{table}: the classes of {len(answers.files)} images")
    else:
        print("\n\n".join(shown(answers, k, args.top) for k in range(len(answers.files))))
    if answers.bad:
        sys.exit(1)


def default_table(run: str, images: list[str]) -> str:
    """Where the table of a folder goes; "" where there is none among the arguments."""
    folder = next((image for image in images if os.path.isdir(image)), None)
    if folder is None:
        return ""
    return os.path.join(run, f"classified_{os.path.basename(os.path.abspath(folder))}.csv")


def shown(answers: Answers, index: int, top: int) -> str:
    """A file's likeliest classes as lines of at most 80 columns: name, bar, score."""
    best = answers.best(index, top)
    width = min(NAME, max(len(printable(name)) for name, _ in best))
    lines = [printable(answers.files[index])]
    for name, score in best:
        name = printable(name)
        name = name if len(name) <= width else name[: width - 1] + "…"
        lines.append(f"  {name:<{width}}  {bar(score):<{BAR}}  {100 * score:5.1f} %")
    return "\n".join(lines)


def bar(share: float) -> str:
    """A bar of at most BAR characters; of signs that any terminal has, where it is not UTF-8."""
    if "utf" not in (sys.stdout.encoding or "").lower():
        return "#" * round(share * BAR)
    whole, rest = divmod(round(share * BAR * 8), 8)
    return "█" * whole + EIGHTHS[rest].strip()


def write_table(path: str, answers: Answers, top: int) -> None:
    """Write a row for each file: its name, then each of its likeliest classes and its score."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    top = min(top, len(answers.names))
    writer.writerow(["image", *(f"{word}{k}" for k in range(1, top + 1) for word in COLUMNS)])
    for index, name in enumerate(answers.files):
        cells = [(printable(each), f"{score:.4f}") for each, score in answers.best(index, top)]
        writer.writerow([printable(name), *(cell for pair in cells for cell in pair)])
    write_atomically(path, file.getvalue())
