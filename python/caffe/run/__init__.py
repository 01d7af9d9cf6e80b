"""Running a graph: forward and backward sweeps, several flows in one, recorded passes."""
