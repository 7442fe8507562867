"""Loss terms as pure functions: tensors in, tensors out; no module, configuration, device or logging.

Public: `sdpo.Distillation, token_losses`, `divergence.forward_kl, reverse_kl, jensen_shannon`,
`aggregation.token_mean, sequence_mean, sequence_sum, sequence_sum_norm, all_sequences_mean, imitation_loss`,
`advantages.routed_advantages, scaled_advantages`, `chunked.token_terms`.
"""
