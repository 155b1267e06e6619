"""The world in which notebooks run: the same when they are written and when compared."""

import os


def apply(environ=os.environ, profile="lite", threads=None) -> None:
    """Set the variables that kernels inherit; call it before anything imports torch.

    `threads` caps the threads of each process: 1 where several kernels or workers share the
    machine (two processes with two spinning threads each are up to 15 times slower than one).
    """
    if profile == "lite":
        environ.pop("SEGLIB_DATA", None)  # embedded data only
    environ.pop("MPLBACKEND", None)  # Agg would remove every figure
    environ["SEGLIB_PROFILE"] = profile
    environ["SEGLIB_PROGRESS"] = "0"
    environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or its import asks the network
    environ["OMP_WAIT_POLICY"] = "PASSIVE"  # several processes share the cores …
    environ["GOMP_SPINCOUNT"] = "2000"  # … but a few µs of waiting save a wake-up
    environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not the user's
    if threads is not None:
        environ["OMP_NUM_THREADS"] = environ["MKL_NUM_THREADS"] = str(threads)
