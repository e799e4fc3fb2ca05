"""The work of each command: requests in, calls to the rooms, results printed. Loaded when it runs."""
