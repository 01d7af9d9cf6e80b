"""Running commands with a live BVLC Caffe.

ORACLE_RUN is a command prefix, such as "bash ../shared/oracle/run.sh", that runs a command in the
current folder where `import caffe` is BVLC Caffe.
"""

import os
import shlex
import subprocess


def prefix():
    """The words of ORACLE_RUN, files as absolute paths; none if it is not set."""
    words = shlex.split(os.environ.get("ORACLE_RUN", ""))
    return [os.path.abspath(word) if os.path.exists(word) else word for word in words]


def run(cwd, *command):
    """Run a command with BVLC Caffe in the folder `cwd`; its standard output."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*prefix(), *map(str, command)],
        cwd=cwd,
        text=True,
        env={"OMP_NUM_THREADS": "1", **own},
        capture_output=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"{command} gave {done.returncode}:\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
        )
    return done.stdout
