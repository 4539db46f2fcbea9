"""The jobs beside a deployment: drift of logged inputs, checks of fresh data, features out of new objects, steps of a retraining"""
