"""What is trained: a cost for each experiment, and where its parameters start."""
