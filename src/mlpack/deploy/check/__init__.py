"""Proofs over a written deployment that need no account, no network and no credentials"""
