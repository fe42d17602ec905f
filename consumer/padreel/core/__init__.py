"""The pure part: no clock, no I/O, no logging."""
