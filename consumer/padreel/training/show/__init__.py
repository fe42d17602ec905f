"""Rendering episodes for people."""
