"""Planning help: what flows cost, where to hang auxiliary losses, and the picture of both."""
