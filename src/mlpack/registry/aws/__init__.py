"""A registry on AWS: rows in DynamoDB, bytes in S3."""
