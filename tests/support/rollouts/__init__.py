"""AWS as rollouts meet it: an alias that refuses what Lambda refuses, metrics on demand, and rollouts that are led through both."""
