"""A registry on AWS: its rows are in DynamoDB, its blobs in S3."""
