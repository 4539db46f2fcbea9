"""What tests, slow tests and benchmarks share: small real things, imitations of services, and tables of hostile input.

- `models`: small models and those that strangers brought, each made when a test asks
- `runtime`: packages, workers and front doors, what is sent to them, and an imitation of a GPU
- `registry`: builds, places and damages for the tests of releases
- `images`: a container registry in memory, image layouts, tars by hand
- `serving`: packages behind Lambda's events and as workers, and the protocol's own clients to ask them
- `rollouts`: an alias that refuses what Lambda refuses, metrics on demand, and storms
- `services`: AWS, S3-compatible stores and a real container registry on loopback

Beside them lie what many rooms use: `workshop` (a project to build), `outcomes` (results made of literals), `small_packages`
(a package and the engine as its wheel leaves it), `engine_library` (a small library that runs the installed engine), `hostile`
(words for every sink), and for the slow tests `project` and `installed`.
"""
