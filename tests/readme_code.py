"""The example in relaybp/README.md, as code."""

import os
import re


def example():
    """The text of its one Python block."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(root, "relaybp", "README.md"), encoding="utf-8") as file:
        (found,) = re.findall(r"```python\n(.*?)```", file.read(), re.S)
    return found
