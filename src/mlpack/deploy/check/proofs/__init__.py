"""The proofs of a directory: its digests, our own rules, and what other tools say"""
