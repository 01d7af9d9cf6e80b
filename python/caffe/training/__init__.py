"""The parts of a solver: update rules, checks, nets, snapshots, several processes."""
