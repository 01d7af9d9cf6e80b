"""The `caffe` command and its companions, with the original's flags and output."""
