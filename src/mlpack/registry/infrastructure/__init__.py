"""The infrastructure of a registry on AWS: made directly, or written as templates for CloudFormation, Terraform and IAM."""
