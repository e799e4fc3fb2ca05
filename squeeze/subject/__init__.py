"""The model that is packed or scored: ours, a live module, or one that a user's script builds."""
