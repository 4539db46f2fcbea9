"""The graph as CloudFormation"""
