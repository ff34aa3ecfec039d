"""Vendor packages of the form that docs/adding-a-device.md describes, inside the tree. See `edlab.registry`."""
