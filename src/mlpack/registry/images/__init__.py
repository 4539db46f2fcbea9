"""Images of releases in a container registry."""
