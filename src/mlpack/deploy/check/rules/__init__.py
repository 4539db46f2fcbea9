"""What must hold of a deployment, as pure checks over the facts of a file"""
