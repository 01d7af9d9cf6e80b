"""Command lines as the original tools (gflags) read them, on top of argparse.

-flag=value, -flag value, --flag=value, --flag value; a boolean is -flag, -noflag or -flag=false.
"""

import argparse

_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


class FlagParser(argparse.ArgumentParser):
    """An ArgumentParser whose flags are added with `flag` and take one dash or two."""

    def __init__(self, doc):
        super().__init__(
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._booleans = set()

    def flag(self, name, default, help, choices=None):
        """Add a flag; the type of `default` is the flag's type."""
        if isinstance(default, bool):
            self._booleans.add(name)
            self.add_argument(
                f"-{name}", f"--{name}", action="store_true", default=default, help=help
            )
            self.add_argument(
                f"-no{name}", f"--no{name}", action="store_false", dest=name, help=argparse.SUPPRESS
            )
        else:
            self.add_argument(
                f"-{name}",
                f"--{name}",
                type=type(default),
                default=default,
                choices=choices,
                help=f"{help} (default: {default!r})",
            )

    def parse_args(self, args):
        return super().parse_args([self._plain(arg) for arg in args])

    def _plain(self, arg):
        """-flag=true as -flag, and -flag=false as -noflag."""
        name, equals, value = arg.lstrip("-").partition("=")
        if not (arg.startswith("-") and equals and name in self._booleans):
            return arg
        if value.lower() in _TRUE:
            return f"-{name}"
        if value.lower() in _FALSE:
            return f"-no{name}"
        self.error(f"flag -{name} is a boolean: expected true or false, found {value!r}")
