"""Gives programs to endpoints of the sandbox and takes answers back, in order.

Does not know how an endpoint is started, nor what an assert means.
Public: `pool.Pool`, `endpoint.Endpoint, Attached, status`.
"""
