"""Planning help: what flows cost, where to attach auxiliary losses, and a picture of both."""
