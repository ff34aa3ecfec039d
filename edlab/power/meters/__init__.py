"""Power meters next to the target, which this machine reads: one file each. `edlab.power.meter` has their names."""
