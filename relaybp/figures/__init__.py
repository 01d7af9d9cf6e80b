"""Plots of runs, and the papers' figures by their own numbers."""
