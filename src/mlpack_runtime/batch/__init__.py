"""Manifests: many requests in one object, answered once each, by any number of runners that share it and may be killed"""
