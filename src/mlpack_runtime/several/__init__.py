"""Several models in one package: each reached by its own paths of the protocol, loaded at its first request, and let go of when
memory is needed for another."""
