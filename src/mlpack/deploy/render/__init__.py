"""The graph in the languages that apply it: CloudFormation and Terraform, policies and parameters"""

from mlpack.deploy.render.cfn.template import template as cloudformation
from mlpack.deploy.render.parameters import parameters, policies, variables
from mlpack.deploy.render.tf.configuration import configuration as terraform

__all__ = ["cloudformation", "parameters", "policies", "terraform", "variables"]
