"""The graph as Terraform"""
