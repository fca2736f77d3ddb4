"""The static check of hot loops: what is in them, and what a processor makes of that."""
