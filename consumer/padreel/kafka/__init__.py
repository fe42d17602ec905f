"""Asynchronous I/O with the broker."""
