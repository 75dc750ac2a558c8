"""What NNI's one-shot toolbox lacks for generators: mixed operations, weighted sampling, distillation."""
