"""Starts what programs run in: Docker or gVisor containers, or a plain process.

Does not read what programs answer. The one importer of `docker`.
Public: `docker_backend.DockerEndpoint`, `process_backend.ProcessEndpoint`, `image.current_image`, `limits.Limits`.
"""
