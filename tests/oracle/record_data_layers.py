"""Record what BVLC Caffe's data layers give for tests/data_cases.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_data_layers.py

writes tests/golden/data_layers.npz.
"""

import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
os.environ.setdefault("GLOG_minloglevel", "2")

import caffe  # noqa: E402
import data_cases  # noqa: E402
import golden  # noqa: E402
from caffe.proto import caffe_pb2  # noqa: E402


def main():
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        data_cases.write_files(caffe_pb2, folder)
        for name in sys.argv[1:] or data_cases.CASES:
            print(name, flush=True)  # the last line names what ended Caffe
            for index, tops in enumerate(data_cases.run(caffe, name, folder)):
                results.update((f"{name}/{index}/{top}", a) for top, a in tops.items())
        for name, values in data_cases.run_hdf5_output(caffe, folder).items():
            results[f"hdf5_output/{name}"] = values
    golden.save_arrays(os.path.join(golden.FOLDER, "data_layers.npz"), **results)


if __name__ == "__main__":
    main()
