"""Rollouts, load and worker pools on a virtual clock: what a deployment would do in a scenario, before it is anywhere"""
