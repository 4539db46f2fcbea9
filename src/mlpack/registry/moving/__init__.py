"""Copies registries from one place to another by way of an export."""
