"""How it is trained: the plan, the state of a population in training, the one loop."""
