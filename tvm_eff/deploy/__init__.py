"""From records to a product: apply, build, bundle, validate.

Nothing is imported here: loading a bundle must import neither torch nor the tuner.
"""
