"""Topologies: from a service to the graph of what will exist"""

from mlpack.deploy.design.whole import design, target

__all__ = ["design", "target"]
