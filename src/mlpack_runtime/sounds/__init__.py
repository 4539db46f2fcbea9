"""Sounds for models: WAV files to the inputs of a graph, at the rate that the model was trained on.

Samples are counted here and computed in small graphs beside the model (`model/sounds/`), which the package's own engine runs: mixed
down, resampled, made into features, and the best token of each frame.
"""
