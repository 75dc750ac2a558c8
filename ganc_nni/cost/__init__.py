"""What a sub-generator costs: multiply-accumulates, parameters, latency."""
