"""Passes that shorten a flat program and leave what it does."""
