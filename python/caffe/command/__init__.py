"""The `caffe` command and its companions, with the flags and the output of the original's."""
