"""What bounds each kernel of a network: arithmetic, the way from memory, or neither."""
