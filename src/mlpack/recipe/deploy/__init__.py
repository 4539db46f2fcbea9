"""The recipe's section `deploy`: its keys, and what they mean as records that need no pydantic."""
