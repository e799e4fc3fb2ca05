"""The processes of one run: their group, and the sums and copies that travel between them."""
