"""Proofs over a written deployment that need no account, no network and no credentials"""

from mlpack.deploy.check.directory import check

__all__ = ["check"]
