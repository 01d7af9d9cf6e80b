"""Say what the engine sees: python tools/build_info.py"""

import os
import platform

from .. import engine


def main():
    caffe = engine.load()
    print(f"caffe      {caffe.__version__} ({os.path.dirname(caffe.__file__)})")
    print(f"Python     {platform.python_version()} on {platform.machine()}")
    if not engine.is_native(caffe):
        print("engine     an original Caffe: see `caffe device_query` for its devices")
        return
    import torch

    print(f"PyTorch    {torch.__version__}")
    print(
        "CPU        %d threads, %s"
        % (torch.get_num_threads(), torch.backends.cpu.get_cpu_capability())
    )
    print(
        "CUDA       {}, cuDNN {}".format(
            torch.version.cuda or "not in this PyTorch", torch.backends.cudnn.version() or "none"
        )
    )
    for index in range(caffe.gpu_count()):
        properties = torch.cuda.get_device_properties(index)
        print(
            "GPU %d      %s, %.0f GiB, compute capability %d.%d"
            % (
                index,
                properties.name,
                properties.total_memory / 2**30,
                properties.major,
                properties.minor,
            )
        )
    if not caffe.gpu_count():
        print("GPU        none: nets run on the CPU")
    from caffe.kernels import native

    print(
        "kernels    %s"
        % (
            native.library_path().name
            if native.library()
            else "not built (make build): PyTorch's own are used, and are slower"
        )
    )
    print("layers     %d types" % len(caffe.layer_type_list()))
