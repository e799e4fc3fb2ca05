"""A checkpoint and a byte limit → an artifact."""
