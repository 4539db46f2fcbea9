"""Where the results of a batch lie, how runners share its parts, and how far it is"""
