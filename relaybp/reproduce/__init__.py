"""The papers' tables by their own numbers: what they compare, trained, tested and tabulated."""
