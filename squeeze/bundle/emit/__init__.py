"""Printing a program: minified, named, compressed, wrapped."""
