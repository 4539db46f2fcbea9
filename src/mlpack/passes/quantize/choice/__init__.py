"""Which nodes compute in integers, and what stands between them: from the graph, its rules and the engine."""
