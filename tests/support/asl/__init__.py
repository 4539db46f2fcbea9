"""An interpreter of the States Language in its JSONPath form, on a virtual clock: what AWS's documents say, and moto cannot do"""
