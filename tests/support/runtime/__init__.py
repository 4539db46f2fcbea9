"""What the tests of the runtime share: packages, workers and front doors, what is sent to them, and an imitation of a GPU."""
