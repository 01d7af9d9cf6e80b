"""What solvers are made of: update rules, checks, nets, snapshots, several processes."""
