"""Weights and configuration from any checkpoint file, without executing it."""
