"""caffe device_query: the GPUs and their properties."""

import torch

from caffe_plain.errors import CaffeError
from caffe_plain.glog import say

from .. import device


def device_query(options):
    """Run the command."""
    count = device.gpu_count()
    if not count:
        raise CaffeError(
            "device_query: no CUDA device is visible to PyTorch "
            f"{torch.__version__}; install a CUDA build and a driver"
        )
    wanted = range(count) if options.gpu in ("", "all") else map(int, options.gpu.split(","))
    say("caffe", f"Querying GPUs {options.gpu or 'all'}")
    for index in wanted:
        device.set_device(index)
        for name, value in properties(index).items():
            say("common", f"{name + ':':<32}{value}")


def properties(index):
    """{what: value} of one GPU."""
    found = torch.cuda.get_device_properties(index)
    return {
        "Device id": index,
        "Major revision number": found.major,
        "Minor revision number": found.minor,
        "Name": found.name,
        "Total global memory": found.total_memory,
        "Total shared memory per block": found.shared_memory_per_block,
        "Total registers per block": found.regs_per_multiprocessor,
        "Warp size": found.warp_size,
        "Number of multiprocessors": found.multi_processor_count,
        "Maximum threads per multiprocessor": found.max_threads_per_multi_processor,
        "L2 cache": found.L2_cache_size,
        "CUDA version": torch.version.cuda,
        "cuDNN version": torch.backends.cudnn.version(),
    }
