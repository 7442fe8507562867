"""Loss terms as pure functions: tensors in, tensors out; no module, configuration, device or logging."""
