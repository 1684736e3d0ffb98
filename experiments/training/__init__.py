"""Training: the plan, the state of a population, the loop."""
