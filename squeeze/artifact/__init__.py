"""Tensors ⇄ `.sqz` files."""
