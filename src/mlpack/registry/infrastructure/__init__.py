"""What a registry on AWS is made of: made here, or written down for CloudFormation, Terraform and IAM."""
