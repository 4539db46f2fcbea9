"""The choice of nodes that compute in integers, and of the nodes between them: from the graph, its rules and the engine."""
