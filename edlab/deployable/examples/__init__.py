"""The parts of the example programs, from which `edlab.deployable.program` makes one file."""
