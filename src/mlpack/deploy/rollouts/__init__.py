"""Rollouts: what the controller goes by, their start, state and end, and their trail in the registry"""
