"""Start a package: `python -I -S ROOT/bootstrap.py [lambda|bench DIR]`. Copied to the package's root; compiled anew at each start, so short."""

import sys

ROOT = sys.path[0] = __file__.rpartition("/")[0] or "."
sys.path[1:1] = [ROOT + "/app"]
if sys.argv[1:2] == ["bench"]:
    from mlpack_runtime.bench import main
else:
    from mlpack_runtime.loop import main
sys.exit(main(sys.argv[2:]))
