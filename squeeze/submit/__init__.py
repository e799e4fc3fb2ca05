"""Submission folders: written whole, checked, and run before anything is called done.

`squeeze.submit.write.write_submission` makes one, `squeeze.submit.check.check_submission` checks any.
This module stays empty: the shipped script, `entry.py`, would take its contents along.
"""
