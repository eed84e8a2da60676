"""What is said to a model and what is read from its replies."""
