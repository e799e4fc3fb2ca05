"""The scoring protocol's side of a submission."""
