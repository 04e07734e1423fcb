"""What tests, benchmarks and screenshots share: made-up runs that need no model."""
