"""Other ways to get answers: vLLM, Ray, a served model.

Each heavy library has one importer here, `ray` and `vllm`; none is loaded unless it is asked for.
Public: `worker.Worker, Work`, `ray_engine.RayEngine`, `vllm_engine.VllmPolicy`, `servers.Api`.
"""
