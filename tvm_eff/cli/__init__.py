"""The command lines: each verb is one thin module."""
