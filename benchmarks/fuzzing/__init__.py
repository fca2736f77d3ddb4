"""What :mod:`fuzz` changes and reads."""
