"""Registries of images over HTTP: names, credentials, transport."""
