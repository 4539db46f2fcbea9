"""State machines in JSONPath ASL, what starts them, and how to tell what a run of one will do: rollout, batches, retraining"""
