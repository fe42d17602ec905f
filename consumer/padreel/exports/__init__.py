"""What neighbouring systems read, made from committed episodes. Needs no lerobot."""
