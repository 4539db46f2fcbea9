"""Topologies: from a service to the graph of what will exist"""

from mlpack.deploy.design.whole import design

__all__ = ["design"]
