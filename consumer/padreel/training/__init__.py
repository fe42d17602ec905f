"""What is done with recordings afterwards: checked, merged into training sets, given another action mapping."""
