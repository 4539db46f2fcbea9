"""Start a package: `python -I -S ROOT/bootstrap.py [lambda | bench CALLS | serve | worker | engine VERB]`.

Copied to the package's root. A script is compiled anew at each start, so there is nothing here but the way to compiled modules.
"""

import sys

sys.path.insert(0, __file__.rpartition("/")[0] or ".")
if sys.argv[1:2] == ["bench"]:
    from mlpack_runtime.bench import main
elif sys.argv[1:2] == ["serve"]:
    from mlpack_runtime.hosting.serve import main
elif sys.argv[1:2] == ["worker"]:
    from mlpack_runtime.queueing.worker import main
elif sys.argv[1:2] == ["engine"]:
    from mlpack_runtime.tensorrt.verbs import main
else:
    from mlpack_runtime.loop import main
sys.exit(main(sys.argv[2:]))
