# Runs first in the candidate's process; `ttd_harness` is injected: sources, sizes, device.
def _ttd_boot(harness):
    # within the function, so that no name of ours is left among the candidate's
    import os  # noqa: PLC0415 (see above)
    import sys  # noqa: PLC0415 (see above)
    import types  # noqa: PLC0415 (see above)

    home = os.environ.get("HOME", "/")
    for name in ("TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH"):
        os.environ[name] = os.path.join(home, name.lower())
    os.environ["TRITON_HOME"] = home
    for name, source in harness["sources"].items():
        module = sys.modules[name] = types.ModuleType(name)
        exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    service = sys.modules["ttd_service"]
    if harness["device"] == "cpu":
        service.torch.set_num_threads(1)
    if harness["reference"]:
        service.install_reference(harness["reference"])
    if harness["device"] == "cpu":
        sys.modules["ttd_interpreter_fixes"].apply()
        sys.modules["ttd_interpreter_limits"].apply(harness["no_gpu"])
    return service.start(harness["descriptor"], harness["sizes"], harness["device"])


_ttd_serve_candidate = _ttd_boot(ttd_harness)  # noqa: F821


def _ttd_serve():
    _ttd_serve_candidate(globals())
