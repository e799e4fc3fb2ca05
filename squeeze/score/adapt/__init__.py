"""Test-time training: by document, by chunk, and in phases."""
