"""Packages behind everything that brings them requests, and the protocol's own clients, each in a process of its own.

- `gateway`: HTTP to Lambda's events and back, as API Gateway, load balancers and function URLs do it
- `entrances`: the table of servers that a package is put behind
- `triton_client`, `kserve_client`: programs for the clients' own environment (`tools.parts.clients`)
"""
