"""A manifest's bytes to its records, and its parts: from files and S3, in JSON Lines, CSV and Parquet"""
