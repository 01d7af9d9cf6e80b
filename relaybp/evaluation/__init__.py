"""Testing a net as the papers do: a single crop, all positions at several scales, ensembles."""
