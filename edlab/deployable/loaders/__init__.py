"""One small loader for each runtime, as the example programs contain it: `class Network`, with the runtime imported."""
