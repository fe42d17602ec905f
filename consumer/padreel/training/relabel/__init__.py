"""Actions and states anew, under another mapping."""
