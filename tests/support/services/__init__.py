"""Services on loopback: moto as AWS, stores that misbehave on request, and Debian's container registry."""
