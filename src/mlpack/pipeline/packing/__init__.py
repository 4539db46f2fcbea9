"""From a model to what ships: the runtime part, wheels, and every candidate's package."""
