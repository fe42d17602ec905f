"""Episodes as one HDF5 file with their videos beside it."""
