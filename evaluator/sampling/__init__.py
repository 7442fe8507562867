"""Loads a policy and draws answers from it, by one rule for training and evaluation.

Does not say whether an answer is right.
Public: `model.load_policy`, `policy.Policy, Decoding, generate`, `batches.SamplingPlan`, `completions.Answer`.
"""
