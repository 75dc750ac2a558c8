"""What is done in which order: one module a stage, and the pipeline that runs them."""
