"""A registry kept whole and small: verified, collected, brought to a newer format."""
