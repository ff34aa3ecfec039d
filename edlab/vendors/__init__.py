"""Vendor packages inside the tree, structured as docs/adding-a-device.md describes. See `edlab.registry`."""
