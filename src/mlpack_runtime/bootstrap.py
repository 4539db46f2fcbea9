"""Start a package: `python -I -S ROOT/bootstrap.py [lambda | bench CALLS | batch MANIFEST | serve | worker | engine VERB]`.

Copied to the package's root. A script is compiled anew at each start, so there is nothing here but the way to compiled modules.
"""

import sys
from os.path import exists

root = __file__.rpartition("/")[0] or "."
sys.path.insert(0, root)
if exists(f"{root}/model/weights.json"):  # weights outside the package: they travel while everything else is imported
    from mlpack_runtime.remote.start import begin

    begin(root)
if sys.argv[1:2] == ["bench"]:
    from mlpack_runtime.bench import main
elif sys.argv[1:2] == ["serve"]:
    from mlpack_runtime.hosting.serve import main
elif sys.argv[1:2] == ["worker"]:
    from mlpack_runtime.queueing.worker import main
elif sys.argv[1:2] == ["batch"]:
    from mlpack_runtime.batch.main import main
elif sys.argv[1:2] == ["engine"]:
    from mlpack_runtime.tensorrt.verbs import main
else:
    from mlpack_runtime.loop import main
sys.exit(main(sys.argv[2:]))
