"""Trees named by content and the actions that made them: on this machine, and where several machines share them."""
