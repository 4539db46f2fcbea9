"""Pictures: read from the bytes of a file, brought to the size and the numbers that a model takes"""
