"""The models: their generators, and a folder for each with its prototxts."""
